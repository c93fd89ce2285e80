"""Reading and writing files safely: on a disk, on object storage, and from web servers."""

from camreport.files.whole import (
    ADVICE_AT_ADDRESS as ADVICE_AT_ADDRESS,
)
from camreport.files.whole import (
    LOCK as LOCK,
)
from camreport.files.whole import (
    MARKER as MARKER,
)
from camreport.files.whole import (
    MAX_TABLE_BYTES as MAX_TABLE_BYTES,
)
from camreport.files.whole import (
    RESULTS as RESULTS,
)
from camreport.files.whole import (
    address_of as address_of,
)
from camreport.files.whole import (
    check_no_links as check_no_links,
)
from camreport.files.whole import (
    create as create,
)
from camreport.files.whole import (
    is_file as is_file,
)
from camreport.files.whole import (
    is_folder as is_folder,
)
from camreport.files.whole import (
    is_link as is_link,
)
from camreport.files.whole import (
    is_marked as is_marked,
)
from camreport.files.whole import (
    is_there as is_there,
)
from camreport.files.whole import (
    locked as locked,
)
from camreport.files.whole import (
    make_folder as make_folder,
)
from camreport.files.whole import (
    named as named,
)
from camreport.files.whole import (
    names_in as names_in,
)
from camreport.files.whole import (
    place_of as place_of,
)
from camreport.files.whole import (
    read as read,
)
from camreport.files.whole import (
    reading as reading,
)
from camreport.files.whole import (
    remove as remove,
)
from camreport.files.whole import (
    remove_leftovers as remove_leftovers,
)
from camreport.files.whole import (
    remove_tree as remove_tree,
)
from camreport.files.whole import (
    reported as reported,
)
from camreport.files.whole import (
    sizes as sizes,
)
from camreport.files.whole import (
    staged as staged,
)
from camreport.files.whole import (
    take_over as take_over,
)
from camreport.files.whole import (
    temporary_name as temporary_name,
)
from camreport.files.whole import (
    write as write,
)
from camreport.files.whole import (
    writing as writing,
)
