"""The dashboard at `/ui/`: what there is, what is wrong, and what to do about it, in pages for a browser.

In: requests of browsers, with a cookie that names a token. Out: HTML, and what the API does for that token.

    dashboard.py, answers.py            finds the page of a path; answers, with the policy that browsers keep
    entering.py, forms.py, proxies.py   who is signed in, and by which token; what a form says, and where it comes from
    asking.py, shared.py                asks the API, with the rights of the token; one reading for all who look
    rendering.py, trees.py, charts.py   templates; JSON as a tree; charts as SVG
    overview.py, verdict.py             the first page; what is wrong, in a sentence
    tasks.py, dead.py, repeating.py     what waits, what died, what comes again
    hosts.py, system.py, parts.py       limits; the ledger, settings and warnings; all parts of pages
    reference.py                        the reference of the API, made of its OpenAPI document
    changing.py, many.py, echo.py       what buttons do to one task, or to many; a receiver to try it with
    static.py                           files for browsers

process may import it; it imports api and store. Nothing imports it before somebody asks for a page.
"""
