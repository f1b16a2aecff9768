"""How pages look: on a screen of any width, light or dark, and on paper."""

CSS = """
:root {
  color-scheme: light dark;
  --ink: #1b1f24; --faint: #59636e; --paper: #ffffff; --card: #f4f6f8; --line: #d5dae0; --track: #e3e7ec;
  --natural: #8a94a0; --robust: #0b6bcb; --alarm: #b3261e; --alarm-card: #fdf0ee;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e7eaee; --faint: #a2acb8; --paper: #14171a; --card: #1f2429; --line: #39414a; --track: #2d343b;
    --natural: #79838f; --robust: #5aa9f2; --alarm: #ff9c93; --alarm-card: #33201f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 {
  font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line);
}
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p, ul { margin: .5rem 0; max-width: 46rem; overflow-wrap: break-word; }
ul { padding-left: 1.25rem; }
li { margin: .25rem 0; }
a { color: var(--robust); }
nav ul { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; padding: 0; max-width: none; }
nav li { margin: 0; }
nav a { display: inline-block; padding: .3rem 0; }
code, pre {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .87rem;
}
code { overflow-wrap: anywhere; }
pre {
  background: var(--card); border-radius: .4rem; padding: .75rem; margin: .5rem 0; white-space: pre-wrap;
  overflow-wrap: anywhere;
}
.faint, .caption, figcaption { color: var(--faint); font-size: .9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.card { background: var(--card); border-radius: .5rem; padding: .75rem 1rem; }
.card dt { color: var(--faint); font-size: .9rem; }
.card dd { margin: 0; }
.card .value { font-size: 2rem; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card.first .value { color: var(--robust); }
.scroll { overflow-x: auto; max-width: 100%; margin: .75rem 0; }
.scroll:focus-visible { outline: 2px solid var(--robust); }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
.caption { margin-bottom: -.5rem; }
th, td { padding: .3rem .75rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; }
thead th { color: var(--faint); font-weight: 500; vertical-align: bottom; white-space: nowrap; }
th:first-child, .words { text-align: left; }
tbody th { font-weight: 400; min-width: 4.5rem; overflow-wrap: break-word; }
td { white-space: nowrap; }
td.words { white-space: normal; min-width: 12rem; overflow-wrap: anywhere; }
tr.first th, tr.first td { font-weight: 650; }
.bar {
  display: inline-block; width: 5.5rem; height: .65rem; margin-right: .3rem; border-radius: .15rem;
  background: var(--track);
}
.share { display: inline-block; min-width: 4.7em; }
.bar span { display: block; height: 100%; border-radius: .15rem; background: var(--robust); }
.bar.natural span { background: var(--natural); }
figure { margin: .75rem 0; }
.plot { display: block; background: #fff; border-radius: .4rem; max-width: 100%; height: auto; }
.examples {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1rem; margin: .75rem 0;
}
.example { margin: 0; background: var(--card); border-radius: .5rem; padding: .6rem; }
.example .images { display: grid; grid-template-columns: repeat(3, 1fr); gap: .4rem; }
.example .images > div { min-width: 0; }
.example img { display: block; width: 100%; height: auto; border-radius: .15rem; }
.pixels { image-rendering: pixelated; }
.example .images p {
  margin: .2rem 0 0; font-size: .8rem; line-height: 1.3; color: var(--faint); overflow-wrap: anywhere;
}
.example figcaption { margin-top: .4rem; overflow-wrap: anywhere; }
.flag {
  background: var(--alarm-card); border-left: .3rem solid var(--alarm); border-radius: .3rem; padding: .5rem .9rem;
  margin: .75rem 0;
}
.flag h3 { margin: 0; color: var(--alarm); }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--robust); padding: .2rem 0; }
footer { margin-top: 2.5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
@media (max-width: 30rem) {
  table { font-size: .87rem; }
  th, td { padding-right: .5rem; }
  .bar { width: 2.4rem; margin-right: 0; }
  tbody th { min-width: 2.5rem; }
  td.words { min-width: 7rem; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --faint: #444; --line: #bbb; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .scroll { overflow: visible; }
  .bar, .card, .example, .flag, .bar span { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .card, .example, .flag, figure, tr, pre { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; height: auto; }
}
"""
