"""The look of the HTML report: light and dark, wide and narrow, and on paper."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #222; --muted: #595959; --line: #d9d9d9;
  --soft: #f5f6f8; --right: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #e8e8e8; --muted: #a5a9b1; --line: #3a3e46; --soft: #21242a;
    --right: #6bb8ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1060px; padding: 1.5rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); break-after: avoid; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; break-after: avoid; }
p { margin: .5rem 0; }
.muted, caption, .note { color: var(--muted); }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0 0; }
.numbers div { background: var(--soft); border-radius: .5rem; padding: .6rem .8rem; }
.numbers dt { color: var(--muted); font-size: .85rem; }
.numbers dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.numbers .first { background: var(--right); color: var(--paper); }
.numbers .first dt { color: inherit; }
.numbers .first dd { font-weight: 650; }
.decision { border-left: .3rem solid var(--right); background: var(--soft); border-radius: .25rem;
  padding: .25rem 1rem 1rem; margin-top: 1.5rem; }
.decision h1 { font-size: 1.2rem; margin: .75rem 0; }
.decision h2 { font-size: 1rem; margin: 1.25rem 0 .5rem; border: 0; padding: 0; }
a { color: var(--right); }
figure { margin: 0; overflow-x: auto; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border-radius: .25rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 500; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
td { white-space: pre-line; }
code { font: .85em ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
details > summary { cursor: pointer; color: var(--right); margin: .5rem 0; }
@media (max-width: 640px) {
  body { padding: 1rem .9rem 3rem; }
  h1 { font-size: 1.35rem; }
  figure img.wide { max-width: none; width: 620px; } }
@media print {
  :root { --paper: #fff; --ink: #000; --muted: #444; --line: #bbb; --soft: #f3f3f3;
    --right: #005a8e; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { margin-top: 1.25rem; }
  figure img { max-width: 100% !important; max-height: 22cm; width: auto !important; }
  .numbers .first { background: none; color: inherit; border: 1px solid var(--ink); }
  .table, figure { overflow: visible; }
  td, code { overflow-wrap: anywhere; }
  tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  details > summary { color: inherit; list-style: none; } }
"""
