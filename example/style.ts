/** The stylesheet of the start page and of the embedded provider. */

export const css = `
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --card: #fff; --text: #1b2330; --soft: #5b6676; --line: #e1e5eb;
  --accent: #2f5bea; --on-accent: #fff; --tint: #edf1fe; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #12161d; --card: #1a2029; --text: #e8ecf2; --soft: #9aa6b6; --line: #2b3340;
    --accent: #8aa6ff; --on-accent: #101626; --tint: #202b47; --bad: #ff8a80;
  }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 56rem; margin: 0 auto; padding: 0 1.25rem }
main { padding-bottom: 4rem }
h1 { margin: 1.5rem 0 .5rem; font-size: 2rem; line-height: 1.2; letter-spacing: -.02em }
h2 { margin: 0 0 .25rem; font-size: 1.1rem }
p { margin: 0 0 1rem }
a { color: var(--accent) }
.lead { max-width: 38rem; color: var(--soft); font-size: 1.1rem }
.soft { color: var(--soft) }
.bad { color: var(--bad) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.25rem 1.4rem }
.card > :last-child { margin-bottom: 0 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; margin-top: 2rem }
.narrow { max-width: 24rem; margin: 0 auto }
.low { margin-top: 14vh }
.owner { margin: 10vh 0 .75rem; color: var(--soft); text-align: center; font-weight: 600 }
.narrow h1 { margin-top: 0; font-size: 1.5rem }
.button, button { display: inline-block; border: 1px solid transparent; border-radius: 9px; padding: .55rem 1.1rem; background: var(--accent); color: var(--on-accent); font: inherit; font-weight: 600; text-decoration: none; cursor: pointer }
.button:hover, button:hover { filter: brightness(1.08) }
.quiet { background: transparent; border-color: var(--line); color: var(--text) }
.quiet:hover { border-color: var(--accent) }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
label { display: block; margin-bottom: .3rem; font-weight: 600 }
input { width: 100%; margin-bottom: 1rem; border: 1px solid var(--line); border-radius: 9px; padding: .6rem .75rem; background: var(--back); color: inherit; font: inherit }
.narrow button { width: 100%; margin-bottom: .6rem }
table { width: 100%; border-collapse: collapse }
th, td { padding: .6rem .75rem .6rem 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top; overflow-wrap: anywhere }
tr:first-child > * { border-top: 0 }
th { width: 30%; color: var(--soft); font-weight: 500 }
code, pre, td { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .9rem }
pre { margin: 1rem 0 0; padding: .8rem 1rem; border-radius: 9px; background: var(--tint); white-space: pre-wrap; overflow-wrap: anywhere }
.card + .card { margin-top: 1rem }
.cards .card { margin-top: 0 }
`
