from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.agents.tools.fetch.html_text import read_html

BASE = "http://site.example/dir/page"


def text_of(source: str) -> str:
    return read_html(source, BASE).text


PAGE = """<!doctype html><html><head><title>A &amp; B</title><style>p {}</style>
<script>if (a < b) document.write("<p>not this</p>")</script></head><body>
<h1>Hello  <b>World</b>!</h1>
<p>One <a href="/two?a=1&amp;b=2">two</a>, <a href="x">three</a>.<br>four</p>
<ul><li>a<li>b <i>c</i></ul>
<pre>def f():
    return 1</pre>
<table><tr><th>k<th>v<tr><td>1<td>2</table>
<!-- not this --><img src=x alt="a picture"> &copy; &#8364; &nbsp;end</body></html>"""


def test_a_page_as_text() -> None:
    page = read_html(PAGE, BASE)
    assert page.title == "A & B"
    assert page.text == (
        "# Hello World!\n\n"
        "One [two](http://site.example/two?a=1&b=2), [three](http://site.example/dir/x).\nfour\n\n"
        "- a\n- b c\n\n"
        "def f():\n    return 1\n\n"
        "k | v\n1 | 2\n\n"
        "a picture © € end"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("a < b && c > d", "a < b && c > d"),
        ("<p>a<p>b", "a\n\nb"),
        ("a<b>b</b>c <b> d </b> e", "abc d e"),
        ("<nav>menu</nav><main><p>the text</main><footer>f", "the text"),
        ("<main>one</main><main>two</main>", "one"),
        ("<main>never closed", "never closed"),
        ("<svg><text>drawn<svg></svg></text></svg>after", "after"),
        ("a<script>never closed <p>b", "a"),
        ("a<SCRIPT>x</ScRiPt >b", "ab"),
        ("a<!-- never closed <p>b", "a"),
        ("a<!-->b", "ab"),
        ("a<?xml x?>b<![CDATA[c]]>d</ e>f", "abdf"),
        ("a<p class='>' title=\">\" x=>b", "a\n\nb"),
        ("a<p class='never closed>b", "a"),
        ("a<p it's fine>b", "a\n\nb"),
        ("&#xD800;&#0;&notit;&unknown;&#" + "9" * 5000 + ";", None),
        ("<a href='javascript:alert(1)'>x</a><a href=#y>y</a><a href='http://['>z</a>", "xyz"),
        ("<a href=http://a.example>x <a href='http://b.example'> y</a></a>", None),
        ("<a href=/x></a>empty", "empty"),
        ("<a href=/%s>long</a>" % ("x" * 600), "long"),
        ("</p></a></main></title>b", "b"),
        ("<textarea>typed</textarea><select><option>o</select>t", "t"),
        ("<title>t</title><title>u</title>b", "b"),
    ],
)
def test_odd_pages(source: str, text: str | None) -> None:
    found = text_of(source)
    if text is not None:
        assert found == text


def test_links_that_hold_links_stay_apart() -> None:
    found = text_of("<a href=http://a.example>x <a href='http://b.example'>y</a></a>")
    assert found == "[x](http://a.example) [y](http://b.example)"


@given(st.text("<>/!-?\"'= \nabp&#;1", max_size=60))
def test_any_text_is_read(source: str) -> None:
    page = read_html(source, BASE)
    assert page.text == page.text.strip()
    assert len(page.title + page.text) <= len(source) + source.count("&")


@given(st.text("ab &", min_size=1, max_size=40).filter(lambda text: text.strip()))
def test_plain_text_is_kept_word_by_word(source: str) -> None:
    assert text_of(source).split() == source.split()


@pytest.mark.parametrize(
    "piece",
    (
        *("<div>", "<a href=x>", "<", "<!--", '<a "', "<a href='", "&#1", "<pre> \n", "<svg>"),
        *("<title>", "<font size=1>", "<table>", "<li>", "<p x='\"", "<script", "</script", "</x "),
        *(
            "&",
            "&a",
            "&amp;",
            "< ",
            "</",
            "<!",
            "<?",
            "<![CDATA[",
            "\0",
            "<\0",
            "<a\0",
            "<a b=",
            "x<",
        ),
        *(
            "<b>",
            "<p><b>",
            "<table><a>",
            "<select>",
            "<math><mi>",
            "<!DOCTYPE ",
            "<?xml ",
            "&#x41;",
        ),
        *("<a href=b>c</a>", "<p", "<script></script>", "<div></div>", " ", "\n<", "<a b='c>"),
    ),
)
def test_a_hostile_page_takes_no_longer_than_another(piece: str) -> None:
    """A reader that looks twice at what it has seen would take minutes for these; one that makes a
    token of every sign takes ten times as long as this one."""
    before = time.thread_time()
    text = text_of(piece * (1_000_000 // len(piece)))
    assert time.thread_time() - before < 2.0
    assert len(text) < 2_100_000


def test_signs_that_are_no_markup_are_one_text() -> None:
    assert text_of("<" * 1_000) == "<" * 1_000
    assert text_of("1 < 2 <3<b>x") == "1 < 2 <3x"
    assert text_of("a\0b<\0p>c") == "ab\n\nc"


def test_a_page_of_more_tags_than_are_read_says_so_and_others_get_their_turn() -> None:
    pauses: list[int] = []
    page = read_html("<p>x" * 150_000, BASE, lambda: pauses.append(1))
    assert page.is_cut and page.text.startswith("x\n\nx")
    assert len(pauses) >= 100
    assert not read_html("<p>x" * 100, BASE).is_cut


def test_links_cannot_make_a_page_large() -> None:
    base = "http://site.example/" + "x" * 400 + "/"
    page = read_html("<a href=y>z" * 20_000, base)
    assert len(page.text) < 2_100_000


def test_attributes() -> None:
    picture = "alt = 'a &lt; b' data-alt=c Alt=d empty src=e/f"
    assert text_of(f"<IMG {picture}>") == "a < b"
    assert text_of("<a data-href=x HREF=e/f empty>y</a>") == "[y](http://site.example/dir/e/f)"
    assert text_of("<a empty href>y</a><img alt>") == "y"
    assert text_of("<img src=x>") == ""
