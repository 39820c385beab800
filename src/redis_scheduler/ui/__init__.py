"""The dashboard at `/ui/`: what there is, what is wrong, and what to do about it, in pages for a browser.

In: requests of browsers, with a cookie that names a token. Out: HTML, and what the API does for that token.

process may import it; it imports api, store and task. Nothing imports it before somebody asks for a page.
"""
