class no_grad:
    def __init__(self):
        self.prev = False

    def __enter__(self):
        self.prev = False

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any):
        self.prev = False


class enable_grad:
    def __init__(self):
        self.prev = False

    def __enter__(self):
        self.prev = False

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any):
        self.prev = False
