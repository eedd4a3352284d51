package gateway_test

import (
	"testing"

	"jumpgate/gateway"
)

func TestWhomALinkIsFor(t *testing.T) {
	home, alias, other := wwwroot(t, "https://home.test"), wwwroot(t, "http://home.test"), wwwroot(t, "https://other.test")
	const subject = "7gkjLRaIwteqTZhhxaVyH070bqDGQq380FNoPN2s2o0" // printf 'jumpgate link subject\0https://home.test\0ada' | openssl dgst -sha256 -binary | basenc --base64url
	if got := gateway.LinkSubject(home, "ada"); got != subject {
		t.Errorf("the subject is %s", got)
	}
	for _, test := range []struct {
		name      string
		signature gateway.Signature
		username  string
		names     []gateway.Wwwroot
		want      bool
	}{
		{"the addressee", gateway.Signature{gateway.RuleOK, "1", subject}, "ada", []gateway.Wwwroot{home, alias}, true},
		{"the addressee of an alias", gateway.Signature{gateway.RuleOK, "1", gateway.LinkSubject(alias, "ada")}, "ada", []gateway.Wwwroot{home, alias}, true},
		{"somebody else", gateway.Signature{gateway.RuleOK, "1", subject}, "bob", []gateway.Wwwroot{home}, false},
		{"a namesake at another home", gateway.Signature{gateway.RuleOK, "1", subject}, "ada", []gateway.Wwwroot{other}, false},
		{"nobody in particular", gateway.Signature{gateway.RuleOK, "1", ""}, "ada", []gateway.Wwwroot{home}, false},
		{"a broken one", gateway.Signature{gateway.RuleSignatureInvalid, "1", subject}, "ada", []gateway.Wwwroot{home}, false},
		{"none", gateway.Signature{}, "ada", []gateway.Wwwroot{home}, false},
	} {
		if got := test.signature.For(test.username, test.names...); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
