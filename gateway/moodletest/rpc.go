package moodletest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"jumpgate/gateway/mnet"
)

// keyring holds the keys of a site: the current one, then the archived ones.
// They may change while requests are served.
type keyring struct {
	mu      sync.Mutex
	keys    []*mnet.Key // replaced, never changed
	history int         // archived keys that are kept
}

func (k *keyring) all() []*mnet.Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

func (k *keyring) current() *mnet.Key { return k.all()[0] }

func (k *keyring) archive(key *mnet.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := slices.Concat([]*mnet.Key{key}, k.keys)
	k.keys = keys[:min(len(keys), 1+k.history)]
}

// Call is a call that a stand-in received.
type Call struct {
	Peer   string // the wwwroot that the envelope claims; empty without one
	Method string // empty if it could not be read, or was not looked at
	Params []mnet.Value
	Fault  int // the code of the fault that was the answer; 0 for none, and for faults 0
}

const maxCalls = 1000

// endpoint is what all RPC endpoints have: a log of calls, and the ills that
// tests wish on them.
type endpoint struct {
	mu    sync.Mutex
	calls []Call
	delay time.Duration
	down  bool
}

func (e *endpoint) note(c Call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.calls) == maxCalls {
		e.calls = e.calls[1:]
	}
	e.calls = append(e.calls, c)
}

// Calls returns the calls that the site received, the oldest first, at most
// 1,000.
func (e *endpoint) Calls() []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// SetDelay makes the RPC endpoint wait before it reads a call.
func (e *endpoint) SetDelay(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.delay = d
}

// SetDown makes the RPC endpoint break connections off instead of answering.
func (e *endpoint) SetDown(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
}

// ready waits as long as it was told to.
func (e *endpoint) ready(ctx context.Context) {
	e.mu.Lock()
	delay, down := e.delay, e.down
	e.mu.Unlock()
	if delay > 0 {
		wait := time.NewTimer(delay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	if down || ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// post sends a document as Moodle's and Mahara's clients do.
func post(ctx context.Context, client *http.Client, url, agent, contentType string, doc []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(doc))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", agent)
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, mnet.MaxBody))
}
