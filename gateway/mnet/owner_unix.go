//go:build unix

package mnet

import (
	"os"
	"syscall"
)

// ownAsDir gives what root has made to the account that owns the directory:
// a command that an administrator runs must not shut the gateway out.
func ownAsDir(name, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return os.Chown(name, int(owner.Uid), int(owner.Gid))
	}
	return nil
}
