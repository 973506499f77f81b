"""How the pages look: light or dark as the reader's system is, one chart in a row on a phone."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 1.5rem auto; padding: 0 1rem;
  overflow-wrap: break-word; }
h1 { margin-bottom: 0; line-height: 1.2; } h2 { margin-top: 2rem; } small { opacity: .7; }
table { border-collapse: collapse; }
td, th { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.b { font-weight: 700; } td.w { white-space: nowrap; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 1.2rem; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; }
svg { width: 100%; display: block; background: var(--soft); border-radius: 4px; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
svg .e { text-anchor: end; } svg .m { text-anchor: middle; } svg .g { stroke: var(--line); }
polyline { fill: none; stroke-width: 1.8; } polyline.d { stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) { polyline, circle, .legend i, .meter { filter: brightness(1.4); } }
@media (max-width: 480px) { td, th { padding-right: .5rem; font-size: 13px; } }
.legend { font-size: 12px; } .legend span { margin-right: 1em; white-space: nowrap; }
.legend i { display: inline-block; width: 18px; margin-right: 4px; vertical-align: middle; border-top: 3px solid; }
.legend i.d { border-top-style: dashed; }
.keys { display: flex; flex-wrap: wrap; gap: .6rem 2rem; font-size: 13px; margin: .5rem 0 1rem; }
.keys > div { max-width: 100%; } .keys b { display: block; }
.keys i { display: inline-block; width: 12px; height: 12px; margin-right: 4px; border-radius: 2px; }
.keys .bar { width: 220px; max-width: 100%; height: 12px; border-radius: 2px; }
.keys .ends { display: flex; justify-content: space-between; width: 220px; max-width: 100%; }
.meter { display: inline-block; height: .7em; background: #2563b0; border-radius: 2px; }
.warn { border-left: 4px solid #d08a1f; padding: .2rem .8rem; background: var(--soft); }
.wide { overflow-x: auto; } .wide img { display: block; max-width: none; }
details > summary { cursor: pointer; font-weight: 600; margin: .8rem 0; }
pre { overflow: auto; background: var(--soft); padding: .8rem; border-radius: 4px; }
"""


def document(title: str, parts: str) -> str:
    """A page that needs no other file.

    :param title: escaped already
    """
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{parts}</body></html>"
