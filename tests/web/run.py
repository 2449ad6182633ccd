#!/usr/bin/env python3
"""Drives the web page of a real devnet, with traffic, in a headless Chromium: tests/web/run.py PROGRAM [--pictures DIR].

Needs Python 3.11 and chromium, nothing else. Ends everything it started.
"""

import argparse
import json
import pathlib
import signal
import sys
import time

from contrast import contrasts
from devtools import Browser, Failure
from network import Network

NODES = 5
MARKUP = "<script>document.title='caught'</script><img src=x onerror=document.title='caught'>"
PHONE = {"width": 390, "height": 844, "mobile": True}
# Text and background have at least this contrast (WCAG 2.2, AA).
LEAST_CONTRAST = 4.5
WHOLE_RUN = 300


def check(what, found):
    if not found:
        raise Failure(what)
    print(f"  {what}")


def shown(page):
    page.until("the page shows the node", "!document.getElementById('shown').hidden")


def no_troubles(page):
    troubles = page.troubles()
    check("nothing in the console, and the policy was not broken", troubles == [] or print(troubles))


def everything_is_there(page, network):
    print("what there is")
    page.until("all nodes", f"document.querySelectorAll('#nodes tbody tr').length === {NODES}")
    names = page.run("[...document.querySelectorAll('#nodes tbody th')].map(cell => cell.textContent)")
    check("the table has every node", sorted(names) == sorted(node["name"] for node in network.nodes))
    drawn = page.run("[...document.querySelectorAll('#picture .name')].map(text => text.textContent)")
    check("so has the picture", sorted(drawn) == sorted(names))
    check("and every link", page.run("document.querySelectorAll('#picture .link').length") == NODES - 1)
    page.until("the own link says its round trip", "/[µm]s/.test(document.querySelector('#picture .on-link')?.textContent)")
    page.until("both topics", "document.querySelectorAll('#topic-rows tbody button').length === 2")
    page.until("a client", "document.querySelectorAll('#client-rows tbody th').length > 0")
    page.until("what was delivered, and what failed", "document.querySelector('#send-rows').innerText.includes('CAUSE_DELIVERED') && document.querySelector('#send-rows').innerText.includes('CAUSE_NO_SUBSCRIBER')")
    check("certificates with days left", "soon" not in page.run("document.querySelector('#certificate-rows').innerText"))
    check("limits", page.run("document.querySelectorAll('#limit-rows meter').length") > 3)
    check("that it is ready", page.run("document.getElementById('state-text').textContent") == "Ready")


def text_stays_text(page):
    print("a topic with markup in its name")
    find = f"[...document.querySelectorAll('#topic-rows button')].find(one => one.textContent === {json.dumps(MARKUP)})"
    page.until("it is shown", f"!!({find})")
    page.run(f"{find}.click()")
    says = page.until("it is chosen", "document.getElementById('picture-says').textContent.includes('<script>')")
    check("it is text wherever it stands", says)
    check("nothing of it is an element", page.run("document.querySelectorAll('main script, main img').length") == 0)
    check("nothing of it ran", "caught" not in page.run("document.title"))
    check("its subscriber is in the picture", page.run("document.querySelectorAll('#picture .has').length") == 1)


def trace(page):
    print("a message that failed, and what became of it")
    page.until("it is there", "document.querySelectorAll('#failure-rows button').length > 0")
    page.run("document.querySelector('#failure-rows button').click()")
    page.until("a trace", "document.querySelectorAll('#trace .steps li').length > 0", 20)
    check("that names the topic", "nobody" in page.run("document.getElementById('trace').textContent"))


def live(page, network):
    print("what changes")
    subscriber = network.client("subscribe", 1, "fresh/topic")
    began = time.monotonic()
    page.until("a new topic is shown", "document.querySelector('#topic-rows').textContent.includes('fresh/topic')", 20)
    print(f"  a new topic is shown after {time.monotonic() - began:.1f} s, the start of its subscriber included")
    focused = "document.activeElement.textContent"
    page.run("[...document.querySelectorAll('#topic-rows button')].find(one => one.textContent === 'fresh/topic').focus()")
    page.run("document.getElementById('prefix').value = 'fresh'; document.getElementById('prefix').dispatchEvent(new Event('input'))")
    page.until("only what begins so", "document.querySelectorAll('#topic-rows tbody button').length === 1")
    check("focus stays on a row that stays", page.run(focused) == "fresh/topic")
    page.run("document.getElementById('prefix').value = ''; document.getElementById('prefix').dispatchEvent(new Event('input'))")
    page.run("[...document.querySelectorAll('#nodes button')].find(one => one.textContent === 'node-2').click()")
    page.until("only what is subscribed at that node", "!document.getElementById('chosen').hidden && document.querySelectorAll('#topic-rows tbody button').length === 1")
    page.run("document.getElementById('chosen-not').click()")
    subscriber.send_signal(signal.SIGINT)
    subscriber.wait(20)
    page.until("it is gone", "!document.querySelector('#topic-rows').textContent.includes('fresh/topic')", 20)
    one_request_each_time(page)


def one_request_each_time(page):
    page.forget()
    page.until("some refreshes", "(globalThis.seen ??= new Set()).add(document.getElementById('updated').textContent).size > 3", 30)
    paths = [event["params"]["request"]["url"] for event in page.browser.events
             if event["method"] == "Network.requestWillBeSent" and event.get("sessionId") == page.session]
    check(f"one request for each refresh ({len(paths)})", paths and all("/v1/overview" in path for path in paths) and len(paths) <= 5)
    page.run("document.getElementById('pause').click()")
    page.until("the last answer", "true")
    before = page.run("document.getElementById('updated').textContent")
    page.forget()
    page.run("new Promise(done => setTimeout(done, 2600))")
    asked = [event for event in page.browser.events if event["method"] == "Network.requestWillBeSent"]
    check("none while it is paused", asked == [] and before == page.run("document.getElementById('updated').textContent"))
    page.run("document.getElementById('pause').click()")
    page.run("Object.defineProperty(document, 'hidden', { value: true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))")
    page.forget()
    page.run("new Promise(done => setTimeout(done, 2600))")
    asked = [event for event in page.browser.events if event["method"] == "Network.requestWillBeSent"]
    check("none while nobody looks", asked == [])
    page.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.until("it goes on", f"document.getElementById('updated').textContent !== {json.dumps(before)}", 20)


def fits(page, name):
    width = page.run("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    wide = page.run("[...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth && one.checkVisibility()).map(one => one.outerHTML.slice(0, 80))")
    check(f"{name}: nothing is wider than the window", width[0] <= width[1] or print(wide))
    worst = contrasts(page)
    check(f"{name}: contrast of text at least {LEAST_CONTRAST} (lowest {worst[0]:.2f}: {worst[1]})", worst[0] >= LEAST_CONTRAST)


def keyboard_and_names(page):
    print("keyboard, and names for everything")
    # Frozen, so that no row comes while the keys are pressed.
    page.run("document.getElementById('pause').click()")
    controls = page.run("""[...document.querySelectorAll('a[href], button, input, summary, [tabindex="0"]')]
        .filter(one => one.checkVisibility() && !one.disabled).map((one, at) => (one.dataset.at = at)).length""")
    # Where Tab comes first.
    page.run("document.querySelector('.skip').focus({ focusVisible: true })")
    reached, rings = {page.run("document.activeElement.dataset.at")}, True
    for _ in range(controls + 5):
        page.press("Tab", 9)
        at, ring = page.run("[document.activeElement.dataset.at, getComputedStyle(document.activeElement).outlineStyle !== 'none']")
        if at is None:
            break
        reached.add(at)
        rings = rings and ring
    check(f"Tab reaches all {controls} controls", len(reached) == controls)
    check("and every one shows that it has focus", rings)
    page.run("document.querySelector('#nodes button').focus()")
    page.press(" ", 32)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {"button", "link", "textbox", "searchbox", "meter", "table", "image", "navigation", "DisclosureTriangle", "region", "search"}
    value = lambda node, key: (node.get(key) or {}).get("value", "")
    # Pictures that only decorate are not in the tree; a form for searching needs no name.
    nameless = [value(node, "role") for node in nodes if not node.get("ignored") and value(node, "role") in named - {"search"} and not value(node, "name").strip()]
    roles = [value(node, "role") for node in nodes if not node.get("ignored")]
    check("every control, table and region has a name", nameless == [] or print(nameless))
    check("landmarks", all(role in roles for role in ("banner", "navigation", "main", "contentinfo", "search")))
    check("tables are tables", roles.count("table") >= 6 and "rowheader" in roles and "columnheader" in roles)
    levels = page.run("[...document.querySelectorAll('h1, h2, h3')].filter(one => one.checkVisibility()).map(one => +one.tagName[1])")
    check("headings go down by one", levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:])))
    page.run("document.getElementById('pause').click()")


def paint(page):
    """First paint in ms, requests and bytes on the wire of a first visit."""
    page.call("Network.clearBrowserCache")
    page.forget()
    page.call("Page.reload", ignoreCache=True)
    page.until("it is loaded again", "performance.getEntriesByName('first-contentful-paint').length > 0 && !document.getElementById('shown').hidden")
    first = page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    files = page.run("performance.getEntriesByType('resource').map(one => [one.name, one.transferSize])")
    own = [size for name, size in files if "/v1/" not in name]
    index = page.run("performance.getEntriesByType('navigation')[0].transferSize")
    print(f"figures: first contentful paint {first:.0f} ms; {len(own) + 1} files, {sum(own) + index} bytes on the wire")
    page.call("Page.reload")
    page.until("it is loaded once more", "performance.getEntriesByType('resource').length > 5")
    again = page.run("performance.getEntriesByType('resource').filter(one => !one.name.includes('/v1/')).reduce((sum, one) => sum + one.transferSize, 0)")
    check("the second visit takes its files from the browser", again == 0)


def token(page, network):
    print("a node that wants a token")
    page.run("globalThis.fetched = []; const real = fetch; globalThis.fetch = (url, how) => { fetched.push([String(url), how.headers.authorization ?? null]);"
             " return how.headers.authorization === 'Bearer ' + 'r'.repeat(40) ? real(url, { ...how, headers: {} }) : Promise.resolve(new Response('this needs the token', { status: 401 })); }")
    page.until("it asks for the token", "!document.getElementById('authority').hidden")
    check("with what the node says", "this needs the token" in page.run("document.getElementById('authority-why').textContent"))
    check("and the field has focus", page.run("document.activeElement.id") == "token")
    page.type("wrong" * 8)
    page.press("Enter", 13)
    page.until("it is tried", "fetched.some(([, shown]) => shown === 'Bearer ' + 'wrong'.repeat(8))")
    page.until("it asks again", "!document.getElementById('authority').hidden && document.getElementById('token').value === ''")
    page.type("r" * 40)
    page.run("document.getElementById('authority-form').requestSubmit()")
    shown(page)
    check("the token is in no address and not kept", page.run("!fetched.some(([url]) => url.includes('rrr')) && localStorage.length === 0 && sessionStorage.length === 0 && !location.href.includes('rrr')"))


def ends(page, network):
    print("a node that goes away")
    page.open(network.admin())
    shown(page)
    network.started[0].send_signal(signal.SIGINT)
    page.until("it says so", "document.getElementById('state-text').textContent.startsWith('No answer since')", 30)
    check("and what is shown is old", "What is shown is from" in page.run("document.getElementById('notice-text').textContent"))
    check("with a button to try at once", page.run("!document.getElementById('again').hidden"))


def pictures(browser, network, folder):
    for name, how in {"light": {}, "dark": {"scheme": "dark"}, "phone": PHONE}.items():
        page = browser.page(**({"width": 1180, "height": 900} | how))
        page.open(network.admin())
        shown(page)
        page.run("[...document.querySelectorAll('#topic-rows button')].find(one => !one.textContent.includes('<'))?.click()")
        page.run("new Promise(done => setTimeout(done, 300))")
        page.picture(folder / f"{name}.png")
        page.close()


def everything(program, folder):
    network = Network(program, NODES)
    try:
        # What all that follows looks for.
        network.client("subscribe", NODES - 1, "greetings", "--answer", "hello")
        network.client("subscribe", 2, MARKUP)
        network.client("request", 0, "greetings", "hello", "--count", "100000")
        network.client("request", 0, "nobody", "hello").wait(60)
        browser = Browser()
        try:
            page = browser.page()
            page.open(network.admin())
            shown(page)
            everything_is_there(page, network)
            text_stays_text(page)
            trace(page)
            no_troubles(page)
            live(page, network)
            keyboard_and_names(page)
            print("sizes and schemes")
            for scheme in ("light", "dark"):
                page.shape(1280, 900, scheme)
                fits(page, f"{scheme}, desktop")
                page.shape(**PHONE, scheme=scheme)
                fits(page, f"{scheme}, phone")
            page.shape(320, 640, "light", mobile=True)
            fits(page, "light, 320 pixels")
            page.shape(1280, 900, "light")
            paint(page)
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                pictures(browser, network, folder)
            no_troubles(page)
            token(page, network)
            ends(page, network)
        finally:
            browser.close()
    except Failure:
        print(network.log())
        raise
    finally:
        network.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("program", type=pathlib.Path)
    arguments.add_argument("--pictures", type=pathlib.Path, help="where to put screenshots")
    given = arguments.parse_args()
    # Whatever hangs ends with an exception, and so ends what was started.
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(Failure(f"longer than {WHOLE_RUN} s")))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.alarm(WHOLE_RUN)
    try:
        everything(given.program.resolve(), given.pictures)
    except Failure as failure:
        sys.exit(f"FAILED: {failure}")


main()
