"""An html page that needs no other file: its style, escaped text, pictures within the file."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #4878a8; --pale: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 0 1rem 3rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg rect { fill: var(--bar); } svg text { font-size: 11px; fill: currentColor; }
.class { display: grid; grid-template-columns: minmax(0, 35%) 1fr 5rem; gap: .5rem;
  align-items: center; font-size: .9rem; }
.class .bar { background: var(--bar); height: .8rem; border-radius: .15rem; }
.strips { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin-bottom: .8rem; }
.strip { max-width: 100%; } .strip div { display: flex; flex-wrap: wrap; gap: 2px; }
.strip img { height: 5rem; max-width: 100%; } .strip small { display: block; opacity: .75; }
summary { cursor: pointer; }
"""
#: Added for the pages about runs.
RUN_STYLE = """
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; } figcaption { font-size: .9rem; }
.legend { font-size: .8rem; } .legend span { margin-right: .8rem; }
.legend i { display: inline-block; width: .7rem; height: .7rem; margin-right: .3rem; }
.schedule { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.class > span:last-of-type { font-size: .8rem; } .track { position: relative; }
.track i { position: absolute; top: 50%; height: 2px; margin-top: -1px; background: #d1701f; }
.gate { grid-template-columns: minmax(0, 30%) 1fr 3rem 25%; } .gate svg { height: 1.1rem;
  background: var(--pale); }
.confusion { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr));
  gap: .2rem 1rem; } .confusion figcaption { grid-column: 1 / -1; font-weight: 400; }
.confusion img { width: 100%; max-width: 44rem; grid-column: 1 / -1; }
.confusion ol { font-size: .8rem; columns: 10rem; margin: 0; }
table { border-collapse: collapse; font-size: .9rem; align-self: start; }
td, th { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line); }
.films { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
  gap: .8rem 1.5rem; } .film small { display: block; line-height: 1.3; }
.film div { display: grid; grid-template-columns: repeat(6, 1fr); gap: 2px; }
.film img { width: 100%; height: auto; } .film div > small { grid-column: 1 / -1; }
pre { white-space: pre-wrap; background: var(--pale); padding: .6rem; font-size: .85rem; }
dl { display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .1rem 1rem;
  font-size: .9rem; } dd { margin: 0; } dt { opacity: .75; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""


def html_page(title: str, parts: Iterable[str], *, style: str = "") -> str:
    """Return the page with `parts`, html, in its body. `style` is added to the common style."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def escaped(words: object) -> str:
    """Return text for the page. Bytes of a name that are not UTF-8 are escaped, as in the log."""
    return escape(str(words).encode(errors="backslashreplace").decode())


def picture(content: bytes, kind: str = "jpeg", *, alt: str = "") -> str:
    """Return an image whose file, of the given kind (jpeg or png), is part of the page."""
    address = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return f'<img alt="{escaped(alt)}" src="{address}">'
