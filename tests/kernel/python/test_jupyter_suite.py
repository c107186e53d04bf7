"""Jupyter's own tests for kernels (jupyter_kernel_test), with every optional part declared."""

import support  # moves Jupyter's directories, so it comes first
import jupyter_kernel_test

support.install_kernelspec()


class Suite(jupyter_kernel_test.KernelTests):
    kernel_name = "caller"
    language_name = "c++"
    file_extension = ".cpp"

    code_hello_world = 'std::cout << "hello, world" << std::endl;'
    code_stderr = 'std::cerr << "error text" << std::endl;'
    completion_samples = [
        {"text": "std::vecto", "matches": {"vector"}},
        {"text": "int complete_me = 1; complete_m", "matches": {"complete_me"}},
    ]
    complete_code_samples = ["1 + 1", "int f() { return 1; }", 'std::cout << "x";', "// a comment"]
    incomplete_code_samples = ["int f() {", "std::vector<int> v{1,", "int x ="]
    invalid_code_samples = ["int x = );", "}"]
    code_page_something = "?std::string"
    code_generate_error = 'throw std::runtime_error("x");'
    code_execute_result = [
        {"code": "6 * 7", "result": "42"},
        {"code": 'std::string("text")', "result": '"text"'},
        {"code": "caller::html{\"<b>x</b>\"}", "mime": "text/html", "result": "<b>x</b>"},
    ]
    code_display_data = [
        {"code": 'caller::display(caller::html{"<b>x</b>"});', "mime": "text/html"},
        {"code": 'caller::display(caller::markdown{"*x*"});', "mime": "text/markdown"},
        {"code": 'caller::display(caller::latex{"$x$"});', "mime": "text/latex"},
        {"code": 'caller::display(caller::svg{"<svg/>"});', "mime": "image/svg+xml"},
        {"code": 'caller::display(caller::png{std::string("\\x89PNG")});', "mime": "image/png"},
        {"code": 'caller::display(caller::json{"{\\"a\\": 1}"});', "mime": "application/json"},
    ]
    code_history_pattern = "6 *"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "std::string"
    code_clear_output = "caller::clear_output();"


