"""What every implementation of an interface must do, as tests that real ones and fakes pass alike."""

import pytest

pytest.register_assert_rewrite("tests.contract.engine")
pytest.register_assert_rewrite("tests.contract.evidence")
