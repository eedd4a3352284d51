//go:build !unix

package mnet

func ownAsDir(name, dir string) error { return nil }
