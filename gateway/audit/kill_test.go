package audit

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// childDir makes the test program a process that writes a trail in that
// directory until it is killed.
const childDir = "JUMPGATE_AUDIT_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		writeUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// writeUntilKilled has 8 goroutines record events, and prints the id of each
// one that was acknowledged.
func writeUntilKilled(dir string) {
	trail, err := Open(Options{Dir: dir, Always: true, MaxSize: 200000})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for {
				id := strconv.FormatUint(rand.Uint64(), 36)
				e := Event{Kind: KindDecision, Request: id, Target: strings.Repeat("x", rand.IntN(maxTarget))}
				if err := trail.Record(context.Background(), e); err != nil {
					fmt.Println("error", err)
					return
				}
				os.Stdout.WriteString(id + "\n") // one write: whole or not at all
			}
		})
	}
	writers.Wait()
}

// TestATrailOutlivesItsProcesses kills processes again and again while they
// write. 1,000 times, as the claim is, takes about a minute: JUMPGATE_AUDIT_KILLS
// says how often.
func TestATrailOutlivesItsProcesses(t *testing.T) {
	if !posix {
		t.Skip("nothing tells here that a process has ended")
	}
	kills := 100
	if n, err := strconv.Atoi(os.Getenv("JUMPGATE_AUDIT_KILLS")); err == nil {
		kills = n
	}
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for range kills {
		killOne(t, dir, acknowledged)
	}
	trail := open(t, Options{Dir: dir})
	trail.Close()

	all := verify(t, dir)
	torn, unclosed, seen := 0, 0, 0
	for _, e := range events(t, dir) {
		switch e.Kind {
		case KindTorn:
			torn++
		case KindUnclosed:
			unclosed++
		case KindDecision:
			seen++
			delete(acknowledged, e.Request)
		}
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged events are lost", len(acknowledged))
	}
	if torn+unclosed > kills || torn+unclosed < kills/2 { // some died before their first file, or between two
		t.Errorf("%d torn and %d unclosed files after %d kills", torn, unclosed, kills)
	}
	t.Logf("%d kills: %d files, %d events, %d torn tails", kills, len(all), seen, torn)
}

// killOne kills a process that has written for a short while.
func killOne(t *testing.T, dir string, acknowledged map[string]bool) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	n := rand.IntN(48)
	for i := 0; ; i++ {
		if i == n {
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond) // at any point of a write
			child.Process.Kill()
		}
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil || strings.HasPrefix(line, "error") {
			t.Fatal(line, err)
		}
		acknowledged[strings.TrimSuffix(line, "\n")] = true
	}
	child.Wait()
}
