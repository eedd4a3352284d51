package store

import (
	"strings"
	"testing"
	"time"
)

func TestCacheKeepsUntilForgotten(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		here, there := f.Cache("identity"), f.again().Cache("identity")
		get := func(c *Cache, want string) {
			t.Helper()
			got, err := c.Get(ctx, "key")
			if err != nil || string(got) != want || (want == "") != (got == nil) {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
		put := func(c *Cache, value string) {
			t.Helper()
			if err := c.Put(ctx, "key", []byte(value), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		f.wantTrips(t, 1, func() { get(here, "") })
		f.wantTrips(t, 1, func() { put(here, "ada") })
		get(there, "ada")
		if got, err := f.Cache("other").Get(ctx, "key"); got != nil || err != nil {
			t.Errorf("another cache has %q, %v", got, err)
		}
		f.wantTrips(t, 1, func() {
			if err := here.Forget(ctx, "key"); err != nil {
				t.Fatal(err)
			}
		})
		get(there, "")
		put(there, "ada, asked before the logout") // a Put that raced with Forget
		get(here, "")
		if ttl := f.r.client.PTTL(ctx, here.key("key")).Val(); ttl <= 0 || ttl > tombstoneLife {
			t.Errorf("tombstone stands for %s", ttl)
		}
	})
}

func TestCacheRefusesAbsurdEntries(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	c := f.Cache("identity")
	for name, err := range map[string]error{
		"long key":          c.Put(t.Context(), strings.Repeat("k", maxCacheKey+1), []byte("v"), time.Minute),
		"long value":        c.Put(t.Context(), "k", make([]byte, maxCached+1), time.Minute),
		"empty value":       c.Put(t.Context(), "k", nil, time.Minute),
		"for ever":          c.Put(t.Context(), "k", []byte("v"), 0),
		"for a year":        c.Put(t.Context(), "k", []byte("v"), 365*24*time.Hour),
		"long key (forget)": c.Forget(t.Context(), strings.Repeat("k", maxCacheKey+1)),
	} {
		if err == nil {
			t.Errorf("%s: stored", name)
		}
	}
	if keys := f.keys(t); len(keys) != 0 {
		t.Errorf("stored %q", keys)
	}
}
