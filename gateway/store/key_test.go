package store

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"
)

func TestTheFirstGatewayDecidesOnTheKey(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		s, one, two := f.Site, gateway.Fingerprint{1}, gateway.Fingerprint{2}
		agreed, _, states, err := s.RegisterKey(t.Context(), "first", "here", one, 0)
		if err != nil || agreed != one || !slices.Equal(states, []string{"here"}) {
			t.Errorf("first: %s, %q, %v", agreed, states, err)
		}
		agreed, _, states, err = s.RegisterKey(t.Context(), "second", "there", two, 0)
		if slices.Sort(states); err != nil || agreed != one || !slices.Equal(states, []string{"here", "there"}) {
			t.Errorf("second: %s, %q, %v", agreed, states, err)
		}
		agreed, _, states, err = s.RegisterKey(t.Context(), "", "nowhere", two, 0)
		if err != nil || agreed != one || len(states) != 2 {
			t.Errorf("one that only asks: %s, %q, %v", agreed, states, err)
		}
		f.clock.advance(gatewayLife - time.Second)
		if _, _, _, err := s.RegisterKey(t.Context(), "first", "here", one, 0); err != nil {
			t.Error(err)
		}
		f.clock.advance(2 * time.Second)
		if _, _, states, err = s.RegisterKey(t.Context(), "", "", one, 0); err != nil || !slices.Equal(states, []string{"here"}) {
			t.Errorf("after the second has died: %q, %v", states, err)
		}
		other := f.r.Site(mustWwwroot("https://other" + strconv.FormatInt(siteNumber.Add(1), 10) + ".example"))
		if agreed, _, _, err := other.RegisterKey(t.Context(), "", "", two, 0); err != nil || agreed != two {
			t.Errorf("another site: %s, %v", agreed, err)
		}
	})
}

func TestOneOfSeveralChangesTheKey(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		s, old := f.Site, gateway.Fingerprint{1}
		if _, _, _, err := s.RegisterKey(t.Context(), "", "", old, 0); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners []byte
		for i := byte(2); i < 10; i++ {
			wg.Go(func() {
				won, err := s.ChangeKey(t.Context(), old, gateway.Fingerprint{i}, []byte{i})
				if err != nil {
					t.Error(err)
				}
				if won == 1 {
					mu.Lock()
					defer mu.Unlock()
					winners = append(winners, i)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("winners %v", winners)
		}
		now := gateway.Fingerprint{winners[0]}
		if agreed, of, _, err := s.RegisterKey(t.Context(), "", "", old, 0); err != nil || agreed != now || of != 1 {
			t.Errorf("agreed %s, %v", agreed, err)
		}
		if won, err := s.ChangeKey(t.Context(), old, now, []byte("again")); err != nil || won != 1 {
			t.Errorf("the winner asks again: %d, %v", won, err)
		}
		if sealed, err := s.SealedKey(t.Context(), now); err != nil || string(sealed) != "again" {
			t.Errorf("sealed %q, %v", sealed, err)
		}
		if won, err := s.ChangeKey(t.Context(), now, gateway.Fingerprint{11}, nil); err != nil || won != 2 {
			t.Errorf("the next: %d, %v", won, err)
		}
		if sealed, err := s.SealedKey(t.Context(), now); err != nil || sealed != nil {
			t.Errorf("the key before is still offered: %q, %v", sealed, err)
		}
		if agreed, of, _, err := s.RegisterKey(t.Context(), "", "", old, 3); err != nil || agreed != old || of != 3 {
			t.Errorf("a later generation: %s %d, %v", agreed, of, err)
		}
	})
}

func TestRefreshesAreKept(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		s := f.Site
		if chain, err := s.Chain(t.Context(), peer); err != nil || chain != nil {
			t.Errorf("before: %q, %v", chain, err)
		}
		if err := s.KeepChain(t.Context(), peer, []byte("chain")); err != nil {
			t.Error(err)
		}
		if chain, err := s.Chain(t.Context(), peer); err != nil || string(chain) != "chain" {
			t.Errorf("after: %q, %v", chain, err)
		}
		if err := s.KeepChain(t.Context(), peer, make([]byte, maxChain+1)); err == nil {
			t.Error("a chain without bounds is kept")
		}
	})
}
