"""The page of samjax serve in Chromium (make test-browser)."""
