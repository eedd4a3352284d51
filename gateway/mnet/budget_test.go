package mnet

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestOneAddressThatClaimsManyPeersIsLimited(t *testing.T) {
	now := time.Unix(1795336536, 0)
	b, addr := NewBudget(), netip.MustParseAddr("203.0.113.9")
	allowed := 0
	for i := range 2 * addressAllowance.burst {
		if b.allow(caller{addr, fmt.Sprint("peer ", i)}, now) {
			allowed++
		}
	}
	if allowed != addressAllowance.burst {
		t.Errorf("%d calls allowed, want %d", allowed, addressAllowance.burst)
	}
	if !b.allow(caller{netip.MustParseAddr("203.0.113.10"), "peer 0"}, now) {
		t.Error("its neighbour is refused")
	}
}

func TestAllUnprovenCallersTogetherAreLimited(t *testing.T) {
	now := time.Unix(1795336536, 0)
	b := NewBudget()
	known := caller{netip.MustParseAddr("192.0.2.1"), "known"}
	b.prove(known, now)
	allowed := 0
	for i := range 2 * unprovenAllowance.burst {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		if b.allow(caller{addr, fmt.Sprint("peer ", i)}, now) {
			allowed++
		}
	}
	if allowed != unprovenAllowance.burst {
		t.Errorf("%d calls allowed, want %d", allowed, unprovenAllowance.burst)
	}
	if !b.allow(known, now) {
		t.Error("a peer that was there before is refused")
	}
}
