"""Reports on a privacy budget that somebody else can check, offline, without data and without trusting us.

``evidence`` holds what parties signed, ``derive`` turns it into every stated figure, ``document`` is the
form, ``signing`` the file, ``verify`` goes the way back, ``together`` holds several documents against each
other.
"""
