package mnet

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jumpgate/gateway"
)

// newPins returns Pins in a fresh folder whose Fetch counts and returns what
// the test sets, and its log.
func newPins(t *testing.T) (p *Pins, fetched *atomic.Int32, log *bytes.Buffer) {
	log, fetched = &bytes.Buffer{}, &atomic.Int32{}
	return &Pins{
		Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(log, nil)),
		Fetch: func(context.Context, *gateway.Peer) (*gateway.Certificate, error) {
			fetched.Add(1)
			return recordedKey(t, "sp").Certificate(), nil
		},
	}, fetched, log
}

func spPeer(t *testing.T) *gateway.Peer {
	return &gateway.Peer{Wwwroot: wwwroot(t, "http://sp.test:8090")}
}

func TestACertificateIsFetchedOnceAndPinned(t *testing.T) {
	p, fetched, log := newPins(t)
	peer, want := spPeer(t), recordedKey(t, "sp").Certificate().Fingerprint()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if cert, err := p.Certificate(t.Context(), peer); err != nil || cert.Fingerprint() != want {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if n := fetched.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	if n := strings.Count(log.String(), want.String()); n != 1 {
		t.Errorf("the log names the fingerprint %d times:\n%s", n, log)
	}
	info, err := os.Stat(p.file(peer.Wwwroot))
	if err != nil || info.Mode().Perm() != 0o644 || !strings.Contains(info.Name(), "sp.test") {
		t.Errorf("%v, error %v", info, err)
	}

	again := &Pins{Dir: p.Dir, Fetch: func(context.Context, *gateway.Peer) (*gateway.Certificate, error) {
		return nil, errors.New("must not fetch what is pinned")
	}}
	if cert, err := again.Certificate(t.Context(), peer); err != nil || cert.Fingerprint() != want {
		t.Errorf("after a restart: %v", err)
	}
}

func TestAConfiguredCertificateIsUsedAsItIs(t *testing.T) {
	p, fetched, _ := newPins(t)
	peer := spPeer(t)
	peer.Certificate = recordedKey(t, "sp2").Certificate()
	if cert, err := p.Certificate(t.Context(), peer); err != nil || cert != peer.Certificate || fetched.Load() != 0 {
		t.Errorf("%v", err)
	}
}

func TestAPinThatContradictsTheConfigurationIsAnError(t *testing.T) {
	p, _, _ := newPins(t)
	peer := spPeer(t)
	peer.Fingerprint = recordedKey(t, "sp2").Certificate().Fingerprint()
	refused := func(when string) {
		t.Helper()
		cert, err := p.Certificate(t.Context(), peer)
		if cert != nil || err == nil || !strings.Contains(err.Error(), peer.Fingerprint.String()) ||
			!strings.Contains(err.Error(), recordedKey(t, "sp").Certificate().Fingerprint().String()) {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("fetched")
	if _, err := os.Stat(p.file(peer.Wwwroot)); err == nil {
		t.Error("what contradicts the configuration was pinned")
	}

	p, fetched, _ := newPins(t)
	if _, err := p.Certificate(t.Context(), spPeer(t)); err != nil {
		t.Fatal(err)
	}
	refused("in memory")
	p.pins = nil
	refused("in the file")
	if n := fetched.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestAPinOfAnotherSiteOrADamagedOneIsAnError(t *testing.T) {
	for name, content := range map[string]string{
		"another site's": recordedKey(t, "sp2").Certificate().PEM(),
		"damaged":        "-----BEGIN CERTIFICATE-----\n",
		"empty":          "",
	} {
		p, fetched, _ := newPins(t)
		file := p.file(spPeer(t).Wwwroot)
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Certificate(t.Context(), spPeer(t)); err == nil || !strings.Contains(err.Error(), file) || fetched.Load() != 0 {
			t.Errorf("%s pin: %v", name, err)
		}
	}
}

func TestTheFirstOfTwoProcessesPins(t *testing.T) {
	first, _, _ := newPins(t)
	second := &Pins{Dir: first.Dir, Log: first.Log}
	other, err := NewKey(spPeer(t).Wwwroot, time.Now(), DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	second.Fetch = func(ctx context.Context, peer *gateway.Peer) (*gateway.Certificate, error) {
		if _, err := first.Certificate(ctx, peer); err != nil { // meanwhile
			t.Error(err)
		}
		return other.Certificate(), nil
	}
	cert, err := second.Certificate(t.Context(), spPeer(t))
	if err != nil || cert.Fingerprint() != recordedKey(t, "sp").Certificate().Fingerprint() {
		t.Errorf("the second process trusts another certificate, error %v", err)
	}
}

func TestFailedFetchesAreRepeatedEvery30Seconds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		fetched := 0
		p := &Pins{Dir: dir, Fetch: func(context.Context, *gateway.Peer) (*gateway.Certificate, error) {
			fetched++
			return nil, errors.New("peer is down")
		}}
		for range 100 {
			if _, err := p.Certificate(t.Context(), spPeer(t)); err == nil || !strings.Contains(err.Error(), "peer is down") {
				t.Errorf("%v", err)
			}
			time.Sleep(time.Second)
		}
		if fetched != 4 { // at 0, 30, 60 and 90 seconds
			t.Errorf("fetched %d times in 100 seconds", fetched)
		}
	})
}

func TestAFetchIsBoundedAndOutlivesAnImpatientCaller(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := &Pins{Dir: dir, Fetch: func(ctx context.Context, _ *gateway.Peer) (*gateway.Certificate, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			p.Certificate(ctx, spPeer(t))
			if waited := time.Since(start); waited != fetchTime {
				t.Errorf("the attempt took %s", waited)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := p.Certificate(ctx, spPeer(t)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("a waiting caller got %v after %s", err, time.Since(start))
		}
		wg.Wait()
	})
}

func TestPinsOfTwoSitesNeverShareAFile(t *testing.T) {
	p := &Pins{Dir: "/pins"}
	seen := map[string]string{}
	for _, name := range []string{
		"http://a.test", "https://a.test", "http://a.test:8080", "http://a.test/moodle", "http://a.test/moodle/b", "http://[::1]", "http://[::1]:80/a",
		"http://" + strings.Repeat("a.", 100) + "test", "http://" + strings.Repeat("a.", 101) + "test",
	} {
		file := p.file(wwwroot(t, name))
		if other, taken := seen[file]; taken {
			t.Errorf("%s and %s share %s", name, other, file)
		}
		if seen[file] = name; strings.Count(file, "/") != 2 || len(file) > 200 || strings.Contains(file, ":") {
			t.Errorf("%s is pinned in %s", name, file)
		}
	}
}
