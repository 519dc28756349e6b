"""The web page: its headers over HTTP, and a chat with it in headless Chromium, driven through chromedriver."""

import base64
import hashlib
import re
import subprocess
import unittest

import httpx
from server_process import Server

ANSWER_TIMEOUT_S = 60
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in the WebDriver protocol
ENTER = "\ue007"


class Browser:
    """A headless Chromium of its own, spoken to in the WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        port = next(found.group(1) for line in self.driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=ANSWER_TIMEOUT_S + 30)
        # Tests run as root in containers, where Chromium's own sandbox cannot.
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.path = "/session"  # what is deleted, where there is no session
        session = self.http.post("/session", json={"capabilities": {"alwaysMatch": capabilities}}).json()["value"]
        if "sessionId" not in session:
            self.close()
            raise AssertionError(f"no session: {session}")
        self.path = f"/session/{session['sessionId']}"

    def post(self, path, body):
        reply = self.http.post(self.path + path, json=body).json()["value"]
        if isinstance(reply, dict) and "error" in reply:
            raise AssertionError(f"{reply['error']}: {reply['message']}")
        return reply

    def run(self, script):
        return self.post("/execute/sync", {"script": script, "args": []})

    def wait_for(self, condition):
        """Until the expression holds in the page; its value."""
        script = f"""const done = arguments[0];
          const look = () => {{ const value = {condition}; if (value) done(value); else requestAnimationFrame(look); }};
          look();"""
        self.post("/timeouts", {"script": ANSWER_TIMEOUT_S * 1000})
        return self.post("/execute/async", {"script": script, "args": []})

    def type(self, selector, text):
        element = self.post("/element", {"using": "css selector", "value": selector})[ELEMENT]
        self.post(f"/element/{element}/value", {"text": text})

    def complaints(self):
        return [entry["message"] for entry in self.post("/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def close(self):
        self.http.delete(self.path)
        self.http.close()
        self.driver.terminate()
        self.driver.wait()
        self.driver.stdout.close()


class WebPageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("--max-num-seqs", "4", "--max-model-len", "2048"))

    def test_the_policy_admits_the_pages_own_script_and_nothing_else(self):
        reply = httpx.get(self.server.url + "/")
        self.assertEqual((reply.status_code, reply.headers["content-type"]), (200, "text/html; charset=utf-8"))
        policy = reply.headers["content-security-policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        for tag, directive in (("script", "script-src"), ("style", "style-src")):
            (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", reply.text, re.S)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            self.assertIn(f"{directive} 'sha256-{digest}'", policy)
        self.assertNotRegex(reply.text, r"https?://|innerHTML|\bsrc=| on[a-z]+=| style=")
        self.assertEqual(httpx.post(self.server.url + "/").status_code, 405)

    def test_a_chat_in_a_browser(self):
        browser = Browser()
        self.addCleanup(browser.close)
        browser.post("/url", {"url": self.server.url + "/"})
        self.assertEqual(browser.wait_for("document.querySelector('#model').value"), "demo")
        self.assertIn("running", browser.wait_for("document.querySelector('#load').textContent"))
        browser.run("document.querySelector('#temperature').value = 0; document.querySelector('#max_tokens').value = 300;")
        browser.type("#question", "What is <b>2 + 3</b>?" + ENTER)
        note = browser.wait_for("!running && document.querySelector('.assistant .note')?.textContent")
        self.assertRegex(note, r"^\d+ \+ \d+ tokens  [\d.]+ tokens/s$")
        thought, content, is_open = browser.run(
            "const a = document.querySelector('.assistant');"
            "return [a.querySelector('details .text').textContent, a.querySelector(':scope > .text').textContent,"
            " a.querySelector('details').open];"
        )
        body = {"messages": [{"role": "user", "content": "What is <b>2 + 3</b>?"}], "temperature": 0, "top_p": 1, "max_tokens": 300}
        message = httpx.post(self.server.url + "/v1/chat/completions", json=body, timeout=60).json()["choices"][0]["message"]
        self.assertEqual((thought, content, is_open), (message["reasoning"] or "", message["content"] or "", False))
        # What is typed and what comes back is text: it makes no elements.
        self.assertEqual(browser.run("return document.querySelectorAll('main b').length"), 0)
        self.assertEqual(browser.run("return document.querySelector('.user').textContent"), "What is <b>2 + 3</b>?")
        self.assertEqual(browser.complaints(), [])


if __name__ == "__main__":
    unittest.main()
