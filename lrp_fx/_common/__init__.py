"""What every room uses: checks, files, packages, tables, the style of figures."""

from __future__ import annotations

from lrp_fx._common.checks import (
    all_finite as all_finite,
    check_callable as check_callable,
    check_choice as check_choice,
    check_count as check_count,
    check_file as check_file,
    check_flag as check_flag,
    check_made as check_made,
    check_nonnegative as check_nonnegative,
    check_number as check_number,
    check_seed as check_seed,
    entries as entries,
    is_int as is_int,
    make_plain as make_plain,
)
from lrp_fx._common.digest import (
    code_of as code_of,
    digest as digest,
    digest_of_metric as digest_of_metric,
)
from lrp_fx._common.packages import needed as needed
from lrp_fx._common.recent import SHAPES as SHAPES, Recent as Recent
from lrp_fx._common.storage import (
    PART as PART,
    appearing as appearing,
    locked as locked,
    sweep as sweep,
    write_whole as write_whole,
    writing as writing,
)
from lrp_fx._common.style import MISSING as MISSING, drawable as drawable, own_style as own_style
from lrp_fx._common.tables import columns as columns, html_table as html_table
from lrp_fx._common.version import __version__ as __version__
