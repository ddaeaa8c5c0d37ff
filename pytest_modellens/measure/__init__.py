"""The measuring core: sockets in, instants and numbers out. Knows no pytest and no provider."""
