"""`python -m shift_operator.controller`."""

import sys

from shift_operator.controller.main import main

sys.exit(main())
