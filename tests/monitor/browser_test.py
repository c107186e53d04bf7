"""The monitor's page in a headless Chromium. Usage: browser_test.py LIVE_PROGRAM FOLDER_OF_WEBDRIVER [TEST…]"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""


class MonitorPage(unittest.TestCase):
    def setUp(self):
        self.pictures = pathlib.Path(os.environ.get("CALLER_SCREENSHOT", tempfile.mkdtemp(prefix="caller-monitor-")))
        self.browser = Browser()
        self.addCleanup(self.browser.close)

    def start(self, *arguments):
        self.program = subprocess.Popen(  # pylint: disable=consider-using-with
            [PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(self.end)
        self.address = self.program.stdout.readline().strip()
        self.browser.open(self.address)
        self.browser.wait("document.querySelector('#live').dataset.live === 'live'")
        self.browser.script("window.kept = 'this page was never loaded again';")

    def end(self):
        if not self.program.stdin.closed:
            self.program.stdin.close()
        self.program.wait(30)
        self.program.stdout.close()

    def do(self, line):
        self.program.stdin.write(line + "\n")
        self.program.stdin.flush()
        self.assertEqual(self.program.stdout.readline().strip(), "done")

    def look(self, name):
        picture = self.pictures / f"{name}.png"
        self.browser.screenshot(picture)
        self.assertGreater(picture.stat().st_size, 10_000)

    def still_the_same_page(self):
        self.assertEqual(self.browser.script("return window.kept;"), "this page was never loaded again")
        self.assertIsNone(self.browser.script("return window.hacked ?? null;"))

    def row(self, task):
        return f"[...document.querySelectorAll('tbody tr')].find(r => r.innerText.includes({task!r}))"

    def test_a_task_goes_from_registered_to_success_without_reload(self):
        self.start()
        self.assertIn("read-only", self.browser.script("return document.querySelector('.top').innerText;"))
        self.do("call")
        self.browser.wait(f"{self.row('survey.night')}?.dataset.status === 'REGISTERED'")
        self.browser.script(
            f"const row = {self.row('survey.night')}; window.seen = [row.dataset.status];"
            "new MutationObserver(() => window.seen.push(row.dataset.status)).observe(row, {attributes: true, attributeFilter: ['data-status']});"
        )
        key = self.browser.script(f"return {self.row('survey.night')}.dataset.key;")
        self.do("run")
        self.browser.wait(f"{self.row('survey.night')}.dataset.status === 'SUCCESS'")
        seen = self.browser.script("return window.seen;")
        self.assertEqual((seen[0], seen[-1]), ("REGISTERED", "SUCCESS"))
        self.browser.wait("document.querySelectorAll('tbody tr').length === 8")
        self.browser.wait("document.querySelector('.count[data-status=SUCCESS] strong').innerText === '8'")
        self.look("invocations")

        # Its family, from any member.
        self.browser.script("location.hash = '#/invocation/' + arguments[0];", key)
        self.browser.wait("document.querySelectorAll('svg.tree .person').length === 8")
        self.assertEqual(self.browser.script("return document.querySelectorAll('svg.tree .edge').length;"), 7)
        self.assertEqual(self.browser.script("return document.querySelector('svg.tree [aria-current]').dataset.key;"), key)
        self.assertEqual(self.browser.script("return [...document.querySelectorAll('.steps li')].at(-1).dataset.step;"), "SUCCESS")
        self.look("invocation")
        self.browser.script("document.querySelector('svg.tree .person:not([aria-current])').dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}));")
        self.browser.wait(f"!location.hash.endsWith({key!r}) && document.querySelector('h1').innerText === 'images.stack'")
        self.browser.script("location.hash = '#/workflow/' + arguments[0];", key)
        self.browser.wait("document.querySelectorAll('tbody tr').length === 8 && document.querySelectorAll('svg.tree .person').length === 8")
        self.look("workflow")

        # Who ran what when; the new one appears by itself, and goes on.
        self.browser.script("location.hash = '#/timeline';")
        self.browser.wait("document.querySelectorAll('svg.timeline rect.bar').length >= 8")
        self.assertIn("dome-1", self.browser.script("return document.querySelector('.lanes').innerText;"))
        self.do("slow")
        self.browser.wait("document.querySelector('svg.timeline rect.bar[data-open]')")
        self.look("timeline")
        self.browser.script("location.hash = '#/runners';")
        self.browser.wait("document.querySelector('main').innerText.includes('mount.slew')")
        self.assertEqual(self.browser.script("return document.querySelector('.state').innerText;"), "alive")
        self.look("runners")
        self.do("go")
        self.browser.wait("!document.querySelector('main').innerText.includes('mount.slew')")
        self.still_the_same_page()

    def test_hostile_fields_are_text(self):
        self.start("--allow-write")
        self.do("hostile")
        self.do("run")
        self.browser.wait("document.querySelectorAll('tbody tr[data-status=SUCCESS], tbody tr[data-status=FAILED]').length === 2")
        self.assertIn("<img src=x onerror=", self.browser.script("return document.querySelector('tbody').innerText;"))
        self.look("hostile-list")
        for status in ("SUCCESS", "FAILED"):
            self.browser.script("location.hash = '#/';")
            self.browser.wait(f"document.querySelector('tbody tr[data-status={status}] a.task')")
            self.browser.script(f"location.hash = document.querySelector('tbody tr[data-status={status}] a.task').hash;")
            self.browser.wait("document.querySelector('.steps li') && document.querySelector('pre.value')")
            self.assertIn("onerror", self.browser.script("return document.querySelector('h1').innerText;"))
            self.look(f"hostile-{status.lower()}")
        for view in ("runners", "timeline"):
            self.browser.script("location.hash = '#/' + arguments[0];", view)
            self.browser.wait("document.querySelector('main table, main svg.timeline')")
        self.assertEqual(self.browser.script("return document.querySelectorAll('main img, main script').length;"), 0)
        self.still_the_same_page()
        # Nothing was even tried that the policy refuses.
        log = self.browser._call("POST", f"/session/{self.browser.session}/se/log", {"type": "browser"})  # pylint: disable=protected-access
        self.assertEqual(log, [])

    def test_with_the_token_tasks_are_cancelled_run_again_and_purged(self):
        self.start("--allow-write")
        self.assertNotIn("token", self.browser.script("return location.href;"))  # it does not stay in the address
        self.do("slow")
        self.do("run")
        self.browser.wait(f"{self.row('mount.slew')}?.dataset.status === 'RUNNING'")
        self.browser.script(f"location.hash = {self.row('mount.slew')}.querySelector('a.task').hash;")
        self.browser.wait("document.querySelector('.actions .button')")
        self.assertEqual(self.browser.script("return document.querySelector('.actions').innerText;"), "Cancel")
        self.browser.click(".actions .button")
        self.browser.wait("document.querySelector('.headline .badge').dataset.status === 'CANCELLED'")
        self.browser.wait("document.querySelector('.actions').innerText === 'Run again'")
        before = self.browser.script("return location.hash;")
        self.browser.click(".actions .button")
        self.browser.wait(f"location.hash !== {before!r} && document.querySelector('.headline .badge').dataset.status === 'RUNNING'")
        self.do("go")
        self.browser.wait("document.querySelector('.headline .badge').dataset.status === 'SUCCESS'")
        self.browser.script("location.hash = '#/';")
        self.browser.wait("document.querySelectorAll('tbody tr').length === 2")
        self.browser.click(".bar .danger")
        self.browser.wait("document.querySelector('dialog').open")
        self.browser.script("const s = document.querySelector('#age'); s.value = '0';")
        self.look("purge")
        self.browser.click("dialog .danger")
        self.browser.wait("document.querySelectorAll('tbody tr').length === 0")
        self.still_the_same_page()

    def test_the_page_says_when_the_monitor_has_gone(self):
        self.start()
        self.assertTrue(self.browser.script("return document.querySelector('#banner').hidden;"))
        self.end()
        self.browser.wait("!document.querySelector('#banner').hidden")
        self.assertEqual(self.browser.script("return document.querySelector('#live').innerText;"), "Disconnected")
        self.still_the_same_page()


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    sys.path.insert(0, sys.argv.pop(1))
    from webdriver import Browser

    unittest.main(verbosity=2)
