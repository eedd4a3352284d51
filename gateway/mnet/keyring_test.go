package mnet

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"jumpgate/gateway"
)

// registry is a Registry in memory. Its failing says when it stops answering:
// "before" or "after" the next change.
type registry struct {
	mu       sync.Mutex
	agreed   gateway.Fingerprint
	of       int64
	gateways map[string]string
	sealed   map[gateway.Fingerprint][]byte
	changes  int
	failing  string
}

func newRegistry() *registry {
	return &registry{gateways: map[string]string{}, sealed: map[gateway.Fingerprint][]byte{}}
}

var errDown = errors.New("down")

func (r *registry) RegisterKey(_ context.Context, name, state string, f gateway.Fingerprint, generation int64) (gateway.Fingerprint, int64, []string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing == "always" {
		return f, 0, nil, errDown
	}
	if r.agreed.IsZero() || r.of < generation {
		r.agreed, r.of = f, generation
	}
	if name != "" {
		r.gateways[name] = state
	}
	var states []string
	for _, state := range r.gateways {
		states = append(states, state)
	}
	return r.agreed, r.of, states, nil
}

func (r *registry) ChangeKey(_ context.Context, from, to gateway.Fingerprint, sealed []byte) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	failing := r.failing
	if failing != "always" {
		r.failing = ""
	}
	if failing == "before" || failing == "always" {
		return 0, errDown
	}
	if r.agreed != from && r.agreed != to {
		return 0, nil
	}
	if r.agreed != to {
		r.changes++
		r.of++
	}
	r.agreed = to
	if sealed != nil {
		r.sealed[to] = sealed
	}
	if failing == "after" {
		return 0, errDown
	}
	return max(r.of, 1), nil
}

func (r *registry) SealedKey(_ context.Context, f gateway.Fingerprint) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sealed[f], nil
}

func keyringSite(t testing.TB) gateway.Wwwroot { return wwwroot(t, "https://idp.test") }

// openRing opens the keys of the test's site.
func openRing(t *testing.T, o KeyringOptions) *Keyring {
	t.Helper()
	o.Site = keyringSite(t)
	r, _, err := OpenKeyring(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fingerprints(r *Keyring) []gateway.Fingerprint {
	var all []gateway.Fingerprint
	for _, key := range r.Keys() {
		all = append(all, key.Certificate().Fingerprint())
	}
	return all
}

func settle(t *testing.T, r *Keyring) {
	t.Helper()
	if err := r.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func rotate(t *testing.T, r *Keyring) {
	t.Helper()
	if err := r.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRotationKeepsTheLastSixKeys(t *testing.T) {
	r := openRing(t, KeyringOptions{Dir: t.TempDir()})
	want := fingerprints(r)
	for range MaxArchived + 2 {
		time.Sleep(2 * time.Millisecond) // the archive is ordered by the time of its files
		rotate(t, r)
		want = slices.Insert(want, 0, fingerprints(r)[0])
	}
	want = want[:1+MaxArchived]
	if got := fingerprints(r); !slices.Equal(got, want) {
		t.Errorf("keys %v, want %v", got, want)
	}
	if got := fingerprints(openRing(t, KeyringOptions{Dir: r.Dir})); !slices.Equal(got, want) {
		t.Errorf("after a restart: keys %v, want %v", got, want)
	}
	files, _ := filepath.Glob(filepath.Join(r.Dir, keysDir, "*.pem"))
	if len(files) > MaxArchived+1 {
		t.Errorf("%d files of old keys are left", len(files))
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}

func TestARunningGatewayTakesUpAKeyFromItsFiles(t *testing.T) {
	dir := t.TempDir()
	running, command := openRing(t, KeyringOptions{Dir: dir}), openRing(t, KeyringOptions{Dir: dir})
	rotate(t, command)
	settle(t, running)
	if got, want := fingerprints(running), fingerprints(command); !slices.Equal(got, want) || len(got) != 2 {
		t.Errorf("keys %v, want %v", got, want)
	}
}

func TestGatewaysAgreeOnAKey(t *testing.T) {
	secret := []byte(strings.Repeat("s", MinSecret))
	for name, c := range map[string]struct {
		shared        bool // state directory
		first, second []byte
		err           string // of the second gateway's Settle
		rotation      string // error of a rotation by the first
	}{
		"with one state directory":           {shared: true},
		"with a secret":                      {first: secret, second: secret},
		"without either":                     {err: "have agreed on", rotation: "separate state directories"},
		"where one does not have the secret": {first: secret, err: "have agreed on"},
		"where the secrets differ":           {first: secret, second: []byte(strings.Repeat("x", MinSecret)), err: "another secret"},
	} {
		t.Run(name, func(t *testing.T) {
			reg, dir := newRegistry(), t.TempDir()
			first := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Secret: c.first, Gateway: "first"})
			settle(t, first)
			if !c.shared {
				dir = t.TempDir()
				// As somebody does who copies the key by hand.
				if err := os.WriteFile(filepath.Join(dir, currentKey), first.Current().PEM(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			second := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Secret: c.second, Gateway: "second"})
			settle(t, second)
			settle(t, first)

			err := first.Rotate(t.Context())
			if c.rotation != "" {
				if !errors.Is(err, ErrSeparateStates) || !strings.Contains(err.Error(), c.rotation) {
					t.Errorf("rotation: %v", err)
				}
				delete(reg.gateways, "second") // it is down for a moment
				err = first.Rotate(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			err = second.Settle(t.Context())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if got, want := fingerprints(second), fingerprints(first); err != nil || !slices.Equal(got, want) {
				t.Errorf("keys %v, want %v, error %v", got, want, err)
			}
		})
	}
}

func TestOfSeveralGatewaysOneRotates(t *testing.T) {
	for name, shared := range map[string]bool{"with one state directory": true, "with a secret": false} {
		t.Run(name, func(t *testing.T) {
			reg, dir := newRegistry(), t.TempDir()
			secret := []byte(strings.Repeat("s", MinSecret))
			first := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Secret: secret, Gateway: "0"})
			settle(t, first)
			rings := []*Keyring{first} // the others make a key of their own and then take that of the first
			for _, name := range []string{"1", "2", "3"} {
				if !shared {
					dir = t.TempDir()
				}
				r := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Secret: secret, Gateway: name})
				rings = append(rings, r)
			}
			for _, r := range rings {
				settle(t, r)
				if !r.Current().same(first.Current()) {
					t.Fatal("before the rotation a gateway has another key")
				}
			}
			var wg sync.WaitGroup
			for _, r := range rings {
				wg.Go(func() {
					if err := r.Rotate(t.Context()); err != nil {
						t.Errorf("rotate: %v", err)
					}
				})
			}
			wg.Wait()
			for i, r := range rings {
				settle(t, r)
				if got := r.Current().Certificate().Fingerprint(); got != reg.agreed {
					t.Errorf("gateway %d has %s, agreed is %s", i, got, reg.agreed)
				}
			}
		})
	}
}

// Whenever a rotation is cut off, everything that any peer may have sealed a
// message for can still be opened.
func TestARotationThatIsCutOffLosesNoKey(t *testing.T) {
	for name, failing := range map[string]string{
		"before the key was agreed on": "before",
		"before the answer came":       "after",
	} {
		t.Run(name, func(t *testing.T) {
			reg, dir := newRegistry(), t.TempDir()
			r := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Gateway: "first"})
			settle(t, r)
			old := fingerprints(r)[0]
			reg.failing = failing
			if err := r.Rotate(t.Context()); !errors.Is(err, errDown) {
				t.Fatalf("rotate: %v", err)
			}
			next := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Gateway: "second"}) // after kill -9
			settle(t, next)
			if got := fingerprints(next); got[0] != reg.agreed || !slices.Contains(got, old) {
				t.Errorf("keys %v, agreed %s, before %s", got, reg.agreed, old)
			}
			rotate(t, next)
			settle(t, r)
			if got := fingerprints(r)[0]; got != reg.agreed || got == old {
				t.Errorf("the gateway that was cut off has %s, agreed is %s", got, reg.agreed)
			}
		})
	}
}

func TestAConfiguredKeyIsImportedOnce(t *testing.T) {
	reg, dir, file := newRegistry(), t.TempDir(), filepath.Join(t.TempDir(), "moodle.key")
	write := func() gateway.Fingerprint {
		key, err := NewKey(keyringSite(t), time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, key.PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		return key.Certificate().Fingerprint()
	}
	imported := write()
	o := KeyringOptions{Dir: dir, Import: file, Registry: reg, Gateway: "first"}
	r := openRing(t, o)
	settle(t, r)
	if got := fingerprints(r); !slices.Equal(got, []gateway.Fingerprint{imported}) {
		t.Errorf("at first: %v, want %s", got, imported)
	}
	rotate(t, r)
	rotated := fingerprints(r)[0]
	r = openRing(t, o)
	settle(t, r)
	if got := fingerprints(r)[0]; got != rotated {
		t.Errorf("a restart after a rotation went back to %s", got)
	}
	changed := write()
	r = openRing(t, o)
	settle(t, r)
	if got := fingerprints(r); got[0] != changed || reg.agreed != changed || !slices.Contains(got, rotated) {
		t.Errorf("after another file: %v, agreed %s, want %s", got, reg.agreed, changed)
	}
}

func TestAKeyIsRotatedBeforeItEnds(t *testing.T) {
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		life, age time.Duration
		due       bool
	}{
		"a year, 29 days before":          {365 * day, 336 * day, false},
		"a year, 27 days before":          {365 * day, 338 * day, true},
		"a year, after its end":           {365 * day, 400 * day, true},
		"Moodle's 28 days, new":           {28 * day, 0, false},
		"Moodle's 28 days, 3 days left":   {28 * day, 25 * day, false},
		"Moodle's 28 days, 2 days left":   {28 * day, 26 * day, true},
		"ten years, 29 days before":       {3650 * day, 3621 * day, false},
		"ten years, 27 days before":       {3650 * day, 3623 * day, true},
		"Moodle's 28 days, after its end": {28 * day, 29 * day, true},
	} {
		dir := t.TempDir()
		start := time.Now()
		key, err := NewKey(keyringSite(t), start, c.life)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, currentKey), key.PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		r := openRing(t, KeyringOptions{Dir: dir, Now: func() time.Time { return start.Add(c.age) }})
		if got := r.Due(); got != c.due {
			t.Errorf("%s: due %t", name, got)
		}
	}
}

func TestWatchRotatesAndKeepsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, dir := newRegistry(), t.TempDir()
		start := time.Now()
		now := func() time.Time { return start.Add(350 * 24 * time.Hour) }
		key, err := NewKey(keyringSite(t), start, DefaultLifetime)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, currentKey), key.PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		manual := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Gateway: "manual", Now: now})
		auto := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Gateway: "auto", Now: now})
		ctx, cancel := context.WithCancel(t.Context())
		log, lines := testLog()
		go manual.Watch(ctx, func() bool { return false }, log)
		time.Sleep(settleEvery + time.Second)
		if got := manual.Current(); !got.same(key) {
			t.Error("the key was changed although nobody asked for it")
		}
		go auto.Watch(ctx, func() bool { return true }, log)
		time.Sleep(3 * settleEvery)
		if a, m := auto.Current(), manual.Current(); a.same(key) || !a.same(m) {
			t.Errorf("after a rotation: %s and %s, before %s", a, m, key)
		}
		if n := strings.Count(lines(), "has changed"); n != 2 {
			t.Errorf("%d changes are logged:\n%s", n, lines())
		}
		reg.mu.Lock()
		reg.agreed, reg.of = gateway.Fingerprint{1}, reg.of+1
		reg.mu.Unlock()
		time.Sleep(3 * settleEvery)
		if auto.Failure() == nil || strings.Count(lines(), "have agreed on") != 2 {
			t.Errorf("failure %v, log:\n%s", auto.Failure(), lines())
		}
		cancel()
		synctest.Wait()
	})
}

// testLog returns a log and what was written to it.
func testLog() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var b bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	})
	return slog.New(slog.NewTextHandler(w, nil)), func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestAnImportIsNotUndoneByTheConfiguration(t *testing.T) {
	dir, file, reg := t.TempDir(), filepath.Join(t.TempDir(), "moodle.pem"), newRegistry()
	keys := make([]*Key, 2)
	for i := range keys {
		var err error
		if keys[i], err = NewKey(keyringSite(t), time.Now(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, keys[0].PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Gateway: "a", Import: file})
	settle(t, r)
	command := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Import: file})
	if err := command.Import(t.Context(), keys[1]); err != nil {
		t.Fatal(err)
	}
	settle(t, r)
	if err := r.Want(file); err != nil { // at the next reload
		t.Fatal(err)
	}
	settle(t, r)
	if !r.Current().same(keys[1]) {
		t.Error("a reload brought the old key back")
	}
}

func TestARegistryThatForgetsDoesNotBringBackAnOldKey(t *testing.T) {
	reg := newRegistry()
	r := openRing(t, KeyringOptions{Dir: t.TempDir(), Registry: reg, Gateway: "a"})
	settle(t, r)
	old := fingerprints(r)[0]
	rotate(t, r)
	now := fingerprints(r)[0]
	reg.agreed, reg.of = old, 0 // a failover that lost the change
	settle(t, r)
	if got := fingerprints(r)[0]; got != now || reg.agreed != now {
		t.Errorf("current %s, agreed %s, want %s", got, reg.agreed, now)
	}
	again := openRing(t, KeyringOptions{Dir: r.Dir, Registry: reg, Gateway: "b"})
	reg.agreed, reg.of = old, 0
	settle(t, again)
	if reg.agreed != now {
		t.Error("after a restart the old key is back")
	}
}

func TestSixAreArchivedWithARegistry(t *testing.T) {
	r := openRing(t, KeyringOptions{Dir: t.TempDir(), Registry: newRegistry(), Gateway: "a"})
	for range MaxArchived + 3 {
		time.Sleep(2 * time.Millisecond)
		rotate(t, r)
	}
	if n := len(r.Keys()) - 1; n != MaxArchived {
		t.Errorf("%d archived keys", n)
	}
}

func TestKeysThatWereNeverUsedTakeNoRoom(t *testing.T) {
	reg, dir := newRegistry(), t.TempDir()
	r := openRing(t, KeyringOptions{Dir: dir, Registry: reg, Gateway: "a"})
	settle(t, r)
	want := fingerprints(r)
	for range 3 {
		time.Sleep(2 * time.Millisecond)
		rotate(t, r)
		want = slices.Insert(want, 0, fingerprints(r)[0])
	}
	for range MaxArchived { // each a command that was run while Redis was down
		reg.failing = "before"
		if err := openRing(t, KeyringOptions{Dir: dir, Registry: reg}).Rotate(t.Context()); !errors.Is(err, errDown) {
			t.Fatal(err)
		}
	}
	rotate(t, r)
	if got := fingerprints(r)[1:]; !slices.Equal(got, want) {
		t.Errorf("archived %v, want %v", got, want)
	}
	later := time.Now().Add(-2 * offeredLife)
	offered, _ := filepath.Glob(filepath.Join(dir, keysDir, "*"+offeredKey))
	for _, file := range offered {
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
	}
	rotate(t, r)
	if left, _ := filepath.Glob(filepath.Join(dir, keysDir, "*"+offeredKey)); len(offered) != MaxArchived || len(left) != 0 {
		t.Errorf("%d keys were offered, %d are left", len(offered), len(left))
	}
}

func TestASecretCanBeGivenLater(t *testing.T) {
	reg := newRegistry()
	first := openRing(t, KeyringOptions{Dir: t.TempDir(), Registry: reg, Gateway: "a"})
	settle(t, first)
	secret := []byte(strings.Repeat("s", MinSecret))
	first.SetSecret(secret)
	settle(t, first)
	second := openRing(t, KeyringOptions{Dir: t.TempDir(), Registry: reg, Gateway: "b", Secret: secret})
	settle(t, second)
	if !second.Current().same(first.Current()) {
		t.Error("the second gateway did not get the key")
	}
}
