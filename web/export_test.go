package web

// OurPaths is for tests.
var OurPaths = ourPaths
