package gateway_test

import (
	"testing"

	"jumpgate/gateway"
)

func TestASealOpensForItsOwnerAlone(t *testing.T) {
	old, current := [32]byte{1}, [32]byte{2}
	under := func(keys ...[32]byte) gateway.Secrets { return func() [][32]byte { return keys } }
	const session, ada = "adaadaadaadaadaadaadaadaad", "https://home.test ada"
	sealed := under(old).Seal(session, ada)
	if again := under(old).Seal(session, ada); again == sealed {
		t.Error("sealed twice it looks the same")
	}
	for _, test := range []struct {
		name    string
		secrets gateway.Secrets
		sealed  string
		whose   string
		want    string
	}{
		{"with the key that sealed it", under(old), sealed, ada, session},
		{"with that key behind a newer one", under(current, old), sealed, ada, session},
		{"with another key", under(current), sealed, ada, ""},
		{"for another learner", under(old), sealed, "https://home.test eve", ""},
		{"cut off", under(old), sealed[:len(sealed)-2], ada, ""},
		{"empty", under(old), "", ada, ""},
		{"no base64", under(old), "*", ada, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.secrets.Open(test.sealed, test.whose)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
