package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options says where a trail is kept and how. Dir is required.
type Options struct {
	Dir        string // is made if it is not there
	Always     bool   // Record waits until an event is on disk
	Pseudonyms bool   // usernames are hidden
	MaxSize    int64  // of a file in bytes, about; 0 for DefaultMaxSize
	Log        *slog.Logger

	// Live is given what was written, in order and once, for who wants to watch
	// it. What comes while it is busy is left out. It may be nil.
	Live func(ctx context.Context, lines []Line) error

	Now func() time.Time // nil for time.Now
}

// DefaultMaxSize is the size at which a file is closed and the next one begun.
const DefaultMaxSize = 64 << 20

const (
	queueSize       = 4096                   // events that wait to be written
	gatherTime      = 100 * time.Millisecond // in which events are written together, unless Always
	syncInterval    = time.Second            // after which what was written is on disk, unless Always
	checkpointEvery = time.Minute
	recordTime      = time.Second // for which Record waits with Always
	retryEvery      = time.Second // after a failure to write
	liveTime        = 2 * time.Second
	closeTime       = 10 * time.Second
)

// Errors of Record.
var (
	ErrFull   = errors.New("audit: too many events wait to be written")
	ErrSlow   = errors.New("audit: the event is not on disk yet")
	ErrClosed = errors.New("audit: the trail is closed")
)

// Line is a line that was written.
type Line struct {
	File   string // without directory
	Text   []byte // without newline
	Hash   string // its SHA-256, hexadecimal: the head, until another line follows
	Signed bool
}

// Trail writes events to files of its own, which no other process writes to. A
// nil Trail keeps nothing. It may be used by many goroutines at once.
type Trail struct {
	o      Options
	key    ed25519.PrivateKey
	hidden *Pseudonyms // nil for usernames as they are
	writer *writer     // of the goroutine that run is

	mu      sync.Mutex
	next    *batch // is being filled
	spare   *batch // to be filled next
	dropped uint64 // events that no line tells of yet
	closed  bool

	wake    chan struct{} // something waits
	half    chan struct{} // the queue is half full
	stop    chan struct{}
	stopped chan struct{}
	live    chan []Line

	written, lost atomic.Uint64
	broken        atomic.Bool
}

// batch is what is written at once.
type batch struct {
	events []Event
	done   chan struct{} // closed when err says what became of it; nil if nobody waits
	err    error
}

// Open begins a trail in a directory: it makes the key that it is signed with,
// if there is none, and a first file, and records there what became of the
// files of processes that have ended without closing them. That files cannot be
// written is no error, but said in the log and by Broken; they are tried again.
// Close ends the trail.
func Open(o Options) (*Trail, error) {
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	t := &Trail{
		o: o, next: &batch{}, spare: &batch{},
		wake: make(chan struct{}, 1), half: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
		live: make(chan []Line, 16),
	}
	var err error
	if t.key, err = loadKey(o.Dir); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if o.Pseudonyms {
		if t.hidden, err = OpenPseudonyms(o.Dir); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	t.writer = newWriter(o, t.key, strings.ToLower(rand.Text()[:10]))
	t.write(true)
	go t.run()
	return t, nil
}

// Record adds an event: Seq, Time and what is about the line itself are filled
// in. Without Options.Always it never waits and never fails: what there is no
// room for is counted, and a line tells how many. With it, an event for which
// Record returns nil is on disk; an error means that nobody knows, and that the
// caller must not go on with what it wanted to record.
func (t *Trail) Record(ctx context.Context, e Event) error {
	if t == nil {
		return nil
	}
	b, err := t.put(e, t.o.Always)
	if !t.o.Always {
		return nil
	}
	if err != nil {
		return err
	}
	timer := time.NewTimer(recordTime)
	defer timer.Stop()
	select {
	case <-b.done:
		return b.err
	case <-timer.C:
		return ErrSlow
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Note is Record for what has happened already and cannot be stopped: it never
// waits.
func (t *Trail) Note(e Event) {
	if t != nil {
		t.put(e, false)
	}
}

// put adds an event to the batch that is written next.
func (t *Trail) put(e Event, wait bool) (*batch, error) {
	e.Time = t.o.Now()
	t.mu.Lock()
	b := t.next
	switch {
	case t.closed || len(b.events) >= queueSize:
		err := ErrFull
		if t.closed {
			err = ErrClosed
		}
		t.dropped++
		t.mu.Unlock()
		t.lost.Add(1)
		return nil, err
	case wait && b.done == nil:
		b.done = make(chan struct{})
	}
	b.events = append(b.events, e)
	n := len(b.events)
	t.mu.Unlock()
	if n == 1 {
		notify(t.wake)
	}
	if n == queueSize/2 {
		notify(t.half)
	}
	return b, nil
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes until stop.
func (t *Trail) run() {
	defer close(t.stopped)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() { t.show(ctx) })

	checkpoints := time.NewTicker(checkpointEvery)
	defer checkpoints.Stop()
	due := time.NewTimer(time.Hour) // to sync, or to try again
	defer due.Stop()
	for pending := false; ; {
		select {
		case <-t.wake:
			if !t.o.Always {
				t.gather()
			}
			t.write(false)
		case <-due.C:
			pending = false
			t.write(true)
		case <-checkpoints.C:
			t.checked(t.writer.checkpoint())
			t.publish()
		case <-t.stop:
			t.write(true)
			t.checked(t.writer.finish("the process ends"))
			t.publish()
			close(t.live)
			defer time.AfterFunc(liveTime, cancel).Stop()
			watching.Wait()
			return
		}
		switch {
		case pending:
		case t.writer.file == nil:
			due.Reset(retryEvery)
			pending = true
		case t.writer.unsynced:
			due.Reset(syncInterval)
			pending = true
		}
	}
}

// gather waits for more to write at once.
func (t *Trail) gather() {
	timer := time.NewTimer(gatherTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.half:
	case <-t.stop:
	}
}

// write writes what waits, and puts it on disk if sync says so or somebody
// waits for that. Without a file, events go on to wait as long as nobody waits
// for them.
func (t *Trail) write(sync bool) {
	if t.writer.file == nil {
		if err := t.writer.open(); err != nil {
			t.checked(err)
			if !t.o.Always {
				return
			}
		}
	}
	b, dropped := t.take()
	events := b.events
	if dropped > 0 {
		events = append([]Event{{Time: t.o.Now(), Kind: KindDropped, Count: dropped}}, events...)
	}
	lost, err := t.writer.add(events, t.hidden)
	if err == nil && t.writer.unsynced && (sync || t.o.Always) {
		err = t.writer.sync()
	}
	t.checked(err)
	t.settle(b, uint64(lost), dropped, err)
	t.publish()
}

// take returns what waits.
func (t *Trail) take() (*batch, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, dropped := t.next, t.dropped
	t.next, t.spare, t.dropped = t.spare, nil, 0
	if t.next == nil {
		t.next = &batch{}
	}
	return b, dropped
}

// settle tells who waits what became of a batch, of which the last lost events
// were not written.
func (t *Trail) settle(b *batch, lost, dropped uint64, err error) {
	n := uint64(len(b.events))
	told := dropped > 0 && lost <= n // the line about those that were dropped
	lost = min(lost, n)
	t.lost.Add(lost)
	t.written.Add(n - lost)
	if b.done != nil {
		b.err = err
		close(b.done) // and b is theirs now
		b = &batch{}
	}
	clear(b.events)
	b.events = b.events[:0]
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropped += lost
	if !told {
		t.dropped += dropped
	}
	if t.spare == nil {
		t.spare = b
	}
}

// checked says once that the trail cannot be written, and once that it can.
func (t *Trail) checked(err error) {
	failed := err != nil
	if err == nil && t.writer.file == nil {
		return
	}
	switch {
	case failed && !t.broken.Swap(true):
		t.o.Log.Error("the audit trail cannot be written", "dir", t.o.Dir, "error", err, "fsync_always", t.o.Always)
	case !failed && t.broken.Swap(false):
		t.o.Log.Info("the audit trail is written again", "dir", t.o.Dir)
	}
}

// publish hands what was written to who watches it.
func (t *Trail) publish() {
	lines := t.writer.lines
	t.writer.lines = nil
	for _, line := range lines {
		if line.Signed {
			t.o.Log.Info("audit checkpoint", "file", line.File, "head", line.Hash)
		}
	}
	if len(lines) == 0 || t.o.Live == nil {
		return
	}
	select {
	case t.live <- lines:
	default:
	}
}

// show hands lines to Live, which may take its time.
func (t *Trail) show(ctx context.Context) {
	for lines := range t.live {
		limited, cancel := context.WithTimeout(ctx, liveTime)
		_ = t.o.Live(limited, lines) // that Redis is down is said by who watches it
		cancel()
	}
}

// Close writes what waits and a last checkpoint. What is recorded afterwards is
// lost.
func (t *Trail) Close() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	again := t.closed
	t.closed = true
	t.mu.Unlock()
	if !again {
		close(t.stop)
	}
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-t.stopped:
	case <-timer.C:
		return ErrSlow
	}
	if t.broken.Load() {
		return errors.New("audit: the last events could not be written")
	}
	return nil
}

// Broken reports whether the trail cannot be written at the moment.
func (t *Trail) Broken() bool { return t != nil && t.broken.Load() }

// Counts returns how many events were written, and how many were lost.
func (t *Trail) Counts() (written, lost uint64) {
	if t == nil {
		return 0, 0
	}
	return t.written.Load(), t.lost.Load()
}

func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return ownAsDir(dir, filepath.Dir(dir))
}
