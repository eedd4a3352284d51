package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

func TestWhoSaysYesIsBelievedWhereNobodyCanHaveListened(t *testing.T) {
	key, err := mnet.NewKey(wwwroot(t, "https://forum.test"), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert := key.Certificate()
	right, wrong := cert.Fingerprint(), gateway.Fingerprint{1}
	for _, c := range []struct {
		site   string
		answer answer
		refuse string // part of the error; "" if it is trusted
	}{
		{"https://forum.test", answer{yes: true}, ""},
		{"http://localhost:8080", answer{yes: true}, ""},
		{"http://forum.test", answer{yes: true}, "--yes is not enough"},
		{"http://forum.test", answer{fingerprint: right}, ""},
		{"https://forum.test", answer{fingerprint: right}, ""},
		{"https://forum.test", answer{fingerprint: wrong}, "nothing was written"},
		{"https://forum.test", answer{yes: true, fingerprint: wrong}, "nothing was written"},
		{"http://localhost:8080", answer{yes: true, fingerprint: wrong}, "nothing was written"},
	} {
		var said bytes.Buffer
		terminal := &terminal{ctx: t.Context(), stdin: strings.NewReader("y\n"), stdout: &said, stderr: &said}
		err := c.answer.trusts(terminal, wwwroot(t, c.site), cert, "Trust?")
		if (err == nil) != (c.refuse == "") || err != nil && !strings.Contains(err.Error(), c.refuse) || said.Len() > 0 {
			t.Errorf("%s %+v: %v %s", c.site, c.answer, err, &said)
		}
	}
	for text, want := range map[string]bool{"y\n": true, " YES \r\n": true, "yes": true, "\n": false, "": false, "n\n": false, "yep\n": false, "n\ny\n": false} {
		var said bytes.Buffer
		terminal := &terminal{ctx: t.Context(), stdin: strings.NewReader(text), stdout: &said, stderr: &said}
		err := answer{}.trusts(terminal, wwwroot(t, "https://forum.test"), cert, "Trust?")
		if (err == nil) != want || !strings.HasPrefix(said.String(), "Trust? [y/N] ") {
			t.Errorf("%q: %v %s", text, err, &said)
		}
	}
}
