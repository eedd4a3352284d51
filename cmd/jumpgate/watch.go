package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"jumpgate/gateway/config"
)

const (
	// watchInterval is how often the peers' files are looked at, unless there
	// are so many that it would cost more than a fiftieth of a processor.
	watchInterval = time.Second
	watchShare    = 50
	// settleTime is how long changed files must stay as they are: what is
	// still being written is left alone.
	settleTime = 200 * time.Millisecond
)

// peersWatch notices when files in the peers_dirs of a configuration change.
type peersWatch struct {
	taken string // what the configuration in force was made of
	seen  string // what was there last time
}

// look reports whether the files have changed and are the same as last time,
// and when to look again.
func (w *peersWatch) look(c *config.Config) (changed bool, next time.Duration) {
	start := time.Now()
	now := peersFiles(c)
	next = max(watchInterval, watchShare*time.Since(start))
	settled := now == w.seen
	w.seen = now
	switch {
	case now == w.taken:
		return false, next
	case !settled:
		return false, settleTime
	}
	w.taken = now
	return true, next
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
