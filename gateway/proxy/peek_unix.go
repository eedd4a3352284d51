//go:build unix

package proxy

import "syscall"

// canPeek says whether nothingToRead works here. Without it there are no
// links.
const canPeek = true

// nothingToRead reports whether a socket is open and has nothing to read.
func nothingToRead(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN
}
