"""One self-contained HTML page about any set of runs, and its table as a csv.

`runs` reads what runs have written and executes nothing; `groups` puts those together that differ
in the seed alone; `html` writes the page. `inside`, where it is asked for, opens the models.
Not to be confused with `wsrnn.report`, which judges one run when it ends.
"""

from wsrnn.page.groups import Section, gather, long_form, summary
from wsrnn.page.html import page
from wsrnn.page.runs import Found, find, read

__all__ = ["Found", "Section", "find", "gather", "long_form", "page", "read", "summary"]
