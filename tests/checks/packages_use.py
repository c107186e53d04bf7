"""What a user does with the installed packages. Usage: packages_use.py VERSION COMPONENT…   (beside the consumer's sources)"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def check(condition, *what):
    if not condition:
        raise AssertionError(*what)


def run(*command, **options):
    answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=options.pop("timeout", 900), **options)
    check(answer.returncode == 0, command, answer.stdout, answer.stderr)
    return answer.stdout


def kernel():
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import start_new_kernel

    spec = KernelSpecManager().get_kernel_spec("caller")
    check(spec.resource_dir == "/usr/share/jupyter/kernels/caller", spec.resource_dir)
    check(spec.argv[0] == "/usr/bin/caller", spec.argv)
    with open("kernel.log", "w+b") as log:
        manager, client = start_new_kernel(kernel_name="caller", stdout=log, stderr=log)
        try:
            for code, expected in (
                ("int x = 41;\nx + 1", "42"),
                ("co_await caller::sleep_for(1ms);\nstd::vector<int> v{3, 1, 2};\nstd::sort(v.begin(), v.end());\nv", "{1, 2, 3}"),
                ("#include <caller/tube/all.hpp>\ncaller::tube::Value(7).to<int>()", "7"),
            ):
                outputs = []
                reply = client.execute_interactive(code, timeout=60, output_hook=outputs.append)
                shown = [m["content"]["data"]["text/plain"] for m in outputs if m["msg_type"] == "execute_result"]
                check(reply["content"]["status"] == "ok" and shown == [expected], code, shown, reply["content"])
        finally:
            manager.shutdown_kernel(now=True)
            client.stop_channels()
        log.seek(0)
        text = log.read().decode(errors="replace")
    check("slowly" not in text, text)


def main(version, *components):
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if "kernel" in components:
            check(run("caller", "--version") == f"caller {version}\n")
            check("/usr/share/jupyter/kernels/caller" in run("caller", "kernel", "list"))
            kernel()
        print(run(sys.executable, str(HERE / "pkg_config.py"), "", str(HERE), "g++", version, *components))
        run("cmake", "-S", str(HERE), "-B", "build", "-DCOMPONENTS=" + ";".join(components))
        run("cmake", "--build", "build")
        print(run("ctest", "--test-dir", "build", "--output-on-failure", "--no-tests=error"))


if __name__ == "__main__":
    main(*sys.argv[1:])
