//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// notAsRoot refuses to work in the state directory of another account as root:
// what root made there would shut the gateway out, and what that account puts
// in the way could lead root elsewhere.
func notAsRoot(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 {
		return nil // whoever makes it owns it
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return nil
	}
	name := "#" + strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(name[1:]); err == nil {
		name = u.Username
	}
	return withHint(fmt.Errorf("the state directory %s belongs to another account than root", dir),
		"run the command as the account that runs the gateway: sudo -u "+name+" jumpgate …")
}
