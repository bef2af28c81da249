"""A package, since one of the packages that the tests compare with brings a package of this name too."""
