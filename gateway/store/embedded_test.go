package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestEmbeddedLifetimesEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := Open(Options{Addr: Embedded})
		if err != nil {
			t.Fatal(err)
		}
		f := fixture{Site: r.Site(mustWwwroot("https://idp.example"))}
		token, err := f.Mint(t.Context(), grant())
		if err != nil {
			t.Fatal(err)
		}
		b := newBrowser(f.Site)
		b.plant(t, "/1")
		time.Sleep(31 * time.Second)
		if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); !errors.Is(err, ErrTokenExpired) {
			t.Errorf("a token 31 s old: %v", err)
		}
		if token, err = f.Mint(t.Context(), grant()); err != nil {
			t.Fatal(err)
		}
		for range 20 { // keys that nobody asks for again
			if _, err := f.Mint(t.Context(), grant()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(62 * time.Second)
		if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); !errors.Is(err, ErrNoToken) {
			t.Errorf("a token 62 s old: %v", err)
		}
		time.Sleep(NonceLife + 2*time.Second)
		if keys := f.keys(t); len(keys) != 0 {
			t.Errorf("still there after a day: %q", keys)
		}
		if n := versions(t, r); n > 10 {
			t.Errorf("%d dead keys are remembered", n)
		}
		if err := r.Close(); err != nil { // the bubble fails if a goroutine stays
			t.Error(err)
		}
	})
}

// versions counts miniredis' entries of keyVersion; see forgetVersions.
func versions(t *testing.T, r *Redis) int {
	field := reflect.ValueOf(r.embedded.server.DB(0)).Elem().FieldByName("keyVersion")
	if !field.IsValid() {
		t.Fatal("miniredis has no field keyVersion any more")
	}
	r.embedded.server.Lock()
	defer r.embedded.server.Unlock()
	return field.Len()
}

func TestEmbeddedForgetsTheVersionsOfDeadKeys(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	for range 100 {
		token, err := f.Mint(t.Context(), grant())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); err != nil {
			t.Fatal(err)
		}
	}
	f.r.embedded.forgetVersions()
	if n := versions(t, f.r); n != 0 {
		t.Errorf("%d versions are kept", n)
	}
	if _, err := f.Mint(t.Context(), grant()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestFullEmbeddedServerRefusesWritesAndKeepsTokens(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	b := newBrowser(f.Site)
	j := b.plant(t, "/1")
	f.r.embedded.full.Store(true)
	if _, err := f.Mint(t.Context(), grant()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("mint: %v, want ErrUnavailable", err)
	}
	if _, _, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("claim: %v, want ErrUnavailable", err)
	}
	if _, err := f.Redeem(t.Context(), nonce(), random(40), redeemer()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("redeem: %v, want ErrUnavailable", err)
	}
	if got := b.jumps(t); len(got) != 1 {
		t.Errorf("jumps are %q", got)
	}
	f.r.embedded.judgeSize(t.Context(), f.r.client) // there is room after all
	if _, won, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant()); err != nil || !won {
		t.Error(won, err)
	}
}

func TestEmbeddedServersAreSeparateAndEndWithClose(t *testing.T) {
	one, two := newFixture(t, Options{Addr: Embedded}), newFixture(t, Options{Addr: Embedded})
	token, err := one.Mint(t.Context(), grant())
	if err != nil {
		t.Fatal(err)
	}
	two.prefix = one.prefix
	if _, err := two.Redeem(t.Context(), nonce(), token, redeemer()); !errors.Is(err, ErrNoToken) {
		t.Errorf("the other server: %v", err)
	}
	if err := one.r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Mint(t.Context(), grant()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := one.r.embedded.dial(t.Context(), "", ""); err == nil {
		t.Error("a closed server is dialled")
	}
}

func TestEmbeddedServesManyAtOnce(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			b := limited(f.Site, Limits{})
			b.plant(t, fmt.Sprintf("/%d/%s", i, strings.Repeat("x", 1900)))
			j := b.plant(t, "/2")
			token, _, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant())
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := f.r.client.Get(t.Context(), "jumpgate:nothing").Err(); !errors.Is(err, redis.Nil) {
		t.Error(err)
	}
}
