//go:build !unix

package main

func notAsRoot(string) error { return nil }
