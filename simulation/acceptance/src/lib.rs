//! Nothing: the tests of this package are what it is for. They show, on real databases, on a real Kubernetes and with real
//! clients, what the simulator claims.
