package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"jumpgate/gateway/config"
)

// watchInterval is how often the peers' files are looked at.
const watchInterval = 2 * time.Second

// peersWatch notices when files in the peers_dirs of a configuration change.
type peersWatch struct {
	taken string // what the configuration in force was made of
	seen  string // what was there last time
}

// look reports whether the files have changed and are the same as last time:
// what is still being written is left alone.
func (w *peersWatch) look(c *config.Config) bool {
	now := peersFiles(c)
	settled := now == w.seen
	w.seen = now
	if !settled || now == w.taken {
		return false
	}
	w.taken = now
	return true
}

// take notes that the files as they are now are about to be read.
func (w *peersWatch) take(c *config.Config) {
	w.taken = peersFiles(c)
	w.seen = w.taken
}

// peersFiles describes the files in the peers_dirs by names, sizes and times.
func peersFiles(c *config.Config) string {
	var b strings.Builder
	for _, site := range c.Sites {
		if site.PeersDir == "" {
			continue
		}
		entries, err := os.ReadDir(site.PeersDir)
		fmt.Fprintf(&b, "%s %v\n", site.PeersDir, err)
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), ".") {
				continue // not read, and perhaps being written
			}
			info, err := os.Stat(site.PeersDir + "/" + entry.Name())
			if err != nil { // gone since
				continue
			}
			fmt.Fprintf(&b, "%s %d %d\n", entry.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
