package mnet

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
)

func TestAKeyswapIsToldOfIfTheCallerSaysProperlyWhoItIs(t *testing.T) {
	stranger := recordedKey(t, "stranger").Certificate()
	name := stranger.Name()
	for what, c := range map[string]struct {
		params      []Value
		told        bool
		application gateway.Application
	}{
		"a Moodle":                      {[]Value{name, stranger.PEM(), "moodle"}, true, gateway.Moodle},
		"a Mahara":                      {[]Value{name, stranger.PEM()}, true, gateway.Mahara},
		"a certificate of another site": {[]Value{"http://other.test", stranger.PEM(), "moodle"}, false, ""},
		"no certificate":                {[]Value{name, "x", "moodle"}, false, ""},
		"no text":                       {[]Value{Array{name}, Struct{{"x", stranger.PEM()}}, "moodle"}, false, ""},
		"another spelling of the name":  {[]Value{strings.ToUpper(name), stranger.PEM(), "moodle"}, false, ""},
		"a trailing slash":              {[]Value{name + "/", stranger.PEM(), "moodle"}, false, ""},
		"no address":                    {[]Value{"javascript:alert(1)", stranger.PEM(), "moodle"}, false, ""},
		"too large a certificate":       {[]Value{name, strings.Repeat(" ", maxSwapPEM) + stranger.PEM(), "moodle"}, false, ""},
	} {
		s := newSite(t)
		var told []KeyswapRequest
		s.Keyswapped = func(_ context.Context, r KeyswapRequest) { told = append(told, r) }
		w, event := s.post(EncodeCall(keyswap, c.params...), "[2001:db8::1]:80")
		v, err := DecodeResponse(w.Body.Bytes())
		if err != nil || v != s.Keys()[0].Certificate().PEM() || event.Reason != ReasonOK {
			t.Errorf("%s: answer %v, %v", what, v, err)
		}
		if len(told) != 0 != c.told {
			t.Errorf("%s: told of %d", what, len(told))
		} else if c.told && (told[0].Wwwroot.String() != name || told[0].Application != c.application ||
			told[0].Certificate.Fingerprint() != stranger.Fingerprint() || told[0].Addr != netip.MustParseAddr("2001:db8::1")) {
			t.Errorf("%s: told of %+v", what, told[0])
		}
	}
}

func TestAKeyswapIsAnsweredAndNotToldOfTooOften(t *testing.T) {
	s := newSite(t)
	told := 0
	s.Keyswapped = func(context.Context, KeyswapRequest) { told++ }
	stranger := recordedKey(t, "stranger").Certificate()
	doc := EncodeCall(keyswap, stranger.Name(), stranger.PEM(), "moodle")
	swap := func(addr string, n int) (more int) {
		before := told
		for range n {
			if w, _ := s.post(doc, addr); !strings.Contains(w.Body.String(), "BEGIN CERTIFICATE") {
				t.Fatalf("no certificate: %s", w.Body)
			}
		}
		return told - before
	}
	if got := swap("[2001:db8::1]:80", 20); got != swapAllowance.burst {
		t.Errorf("one address is told of %d times", got)
	}
	if got := swap("[2001:db8::ffff]:80", 5); got != 0 {
		t.Errorf("its network is told of %d times more", got)
	}
	if got := swap("192.0.2.1:80", 5); got != 5 {
		t.Errorf("another address is told of %d times", got)
	}
	s.now = s.now.Add(20 * time.Second)
	if got := swap("[2001:db8::1]:80", 20); got != 2 {
		t.Errorf("after 20 seconds it is told of %d times", got)
	}
	for i := range 100 {
		swap(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String()+":80", 1)
	}
	if told > swapsAllowance.burst+2+2*20 {
		t.Errorf("all together are told of %d times", told)
	}
}
