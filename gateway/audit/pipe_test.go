//go:build unix

package audit

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestAPipeHoldsNobodyUp has named pipes lie about where files are looked for.
func TestAPipeHoldsNobodyUp(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".half.jsonl", "2026-01-01-pipe-1.jsonl"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opened := make(chan error, 1)
	go func() {
		trail, err := Open(Options{Dir: dir, Always: true})
		if err == nil {
			err = trail.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for somebody who writes")
	}
	if _, err := Prune(dir, time.Now()); err != nil {
		t.Error(err)
	}
	verify(t, dir)
}
