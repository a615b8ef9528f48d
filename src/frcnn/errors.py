"""The one kind of error that is the user's to mend."""


class UserError(ValueError):
    """Something given cannot be used; the message names it and says what to do.

    The command line shows the message alone and exits with status 2; every other exception is a
    fault of the program and keeps its traceback.
    """
