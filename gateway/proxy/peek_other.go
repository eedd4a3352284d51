//go:build !unix

package proxy

const canPeek = false

func nothingToRead(uintptr) bool { return false }
