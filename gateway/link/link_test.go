package link_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/link"
	"jumpgate/gateway/mnet"
)

var now = time.Unix(1795336536, 0)

const (
	wantsurl = "/mod/forum/discuss.php?d=1&parent=2#p3"
	maxLife  = 90 * 24 * time.Hour
)

func wwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newKey(t testing.TB, site gateway.Wwwroot, made time.Time) *mnet.Key {
	t.Helper()
	key, err := mnet.NewKey(site, made, 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// home verifies the links of a forum that has had two keys.
type home struct {
	link.Verifier
	peer            *gateway.Peer
	page            gateway.Target
	former, current *mnet.Key
	next            *mnet.Key // that nobody knows yet
	asked           int       // for a new key
}

func newHome(t testing.TB) *home {
	t.Helper()
	h := &home{peer: &gateway.Peer{
		Wwwroot: wwwroot(t, "https://forum.test"), Aliases: []gateway.Wwwroot{wwwroot(t, "https://old-forum.test")}, Application: gateway.Moodle,
	}}
	h.former, h.current, h.next = newKey(t, h.peer.Wwwroot, now.AddDate(0, -11, 0)), newKey(t, h.peer.Wwwroot, now), newKey(t, h.peer.Wwwroot, now)
	var rule gateway.Rule
	if h.page, rule = gateway.ParseTarget(h.peer, wantsurl); rule != gateway.RulePath {
		t.Fatal(rule)
	}
	h.Verifier = link.Verifier{
		Site: wwwroot(t, "https://home.test/moodle"), Aliases: []gateway.Wwwroot{wwwroot(t, "http://home.test")}, MaxLife: maxLife,
		Certificates: func(context.Context, *gateway.Peer) ([]*gateway.Certificate, error) {
			return []*gateway.Certificate{h.former.Certificate(), h.current.Certificate()}, nil
		},
		Refresh: func(_ context.Context, _ *gateway.Peer, known *gateway.Certificate) (*gateway.Certificate, error) {
			if h.asked++; known != h.current.Certificate() {
				t.Error("asked by another certificate than the current one")
			}
			return nil, nil
		},
		Now: func() time.Time { return now },
	}
	return h
}

func (h *home) verify(t testing.TB, token string) gateway.Signature {
	return h.Verify(t.Context(), token, h.peer, wantsurl, h.page)
}

func (h *home) sign(t testing.TB, key *mnet.Key, change func(*link.Link)) string {
	t.Helper()
	l := link.Link{Site: h.peer.Wwwroot, Home: h.Site, Page: h.page, Expires: now.Add(time.Hour)}
	if change != nil {
		change(&l)
	}
	token, id, err := link.Sign(key, l)
	if err != nil || len(id) < 22 {
		t.Fatal(id, err)
	}
	return token
}

func TestASignedLinkIsIntact(t *testing.T) {
	h := newHome(t)
	token := h.sign(t, h.current, func(l *link.Link) { l.Username = "ada" })
	s := h.verify(t, token)
	if !s.Intact() || !s.For("ada", h.Site) || s.For("bob", h.Site) {
		t.Errorf("%+v", s)
	}
	id, expires, err := link.Read(token)
	if err != nil || id != s.ID || !expires.Equal(now.Add(time.Hour)) {
		t.Errorf("read %s, %s, %v", id, expires, err)
	}
	address := gateway.Signed(gateway.JumpLink(h.Site, gateway.Moodle, h.peer.Wwwroot, h.page), token)
	if again, _, err := link.Read(address); again != id || err != nil {
		t.Errorf("read %s from the whole link: %v", again, err)
	}
	q, rule := gateway.ParseQuery(address[strings.Index(address, "?")+1:])
	if rule != gateway.RuleOK || q.Link != token || h.Verify(t.Context(), q.Link, h.peer, q.Wantsurl, h.page) != s {
		t.Errorf("the link carries %+v", q)
	}
	if s := h.verify(t, h.sign(t, h.current, nil)); !s.Intact() || s.Subject != "" || s.ID == id {
		t.Errorf("for everybody: %+v", s)
	}
	if h.asked != 0 {
		t.Error("the peer was asked for its key")
	}
	if s := h.verify(t, ""); s != (gateway.Signature{}) || s.Intact() {
		t.Errorf("no token: %+v", s)
	}
}

func TestTheNamesOfBothSitesCount(t *testing.T) {
	h := newHome(t)
	for name, change := range map[string]func(*link.Link){
		"the forum's alias": func(l *link.Link) { l.Site = h.peer.Aliases[0] },
		"the home's alias":  func(l *link.Link) { l.Home = h.Aliases[0] },
	} {
		if s := h.verify(t, h.sign(t, h.current, change)); !s.Intact() {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// An alias of the home passes a link on as the rules write it.
	token := h.sign(t, h.current, nil)
	if s := h.Verify(t.Context(), token, h.peer, "https://forum.test"+wantsurl, h.page); !s.Intact() {
		t.Errorf("another spelling of the page: %+v", s)
	}
}

func TestAFormerKeyCountsUntilItsLastLinkHasEnded(t *testing.T) {
	h := newHome(t)
	token := func() string {
		return h.sign(t, h.former, func(l *link.Link) { l.Expires = h.Verifier.Now().Add(time.Hour) })
	}
	if s := h.verify(t, token()); !s.Intact() {
		t.Errorf("while its certificate is good: %+v", s)
	}
	ends := h.former.Certificate().NotAfter.Add(maxLife)
	for late, want := range map[time.Duration]gateway.Rule{-time.Second: gateway.RuleOK, 0: gateway.RuleSignatureKey} {
		h.Verifier.Now = func() time.Time { return ends.Add(late) }
		if s := h.verify(t, token()); s.Rule != want {
			t.Errorf("%s: %+v", late, s)
		}
	}
	// The current one counts whatever its certificate says, as in MNet.
	h.Verifier.Now = func() time.Time { return now.AddDate(20, 0, 0) }
	if s := h.verify(t, h.sign(t, h.current, func(l *link.Link) { l.Expires = now.AddDate(20, 0, 1) })); !s.Intact() {
		t.Errorf("the current key: %+v", s)
	}
}

func TestAPeerIsAskedForAKeyThatIsNew(t *testing.T) {
	h := newHome(t)
	token := h.sign(t, h.next, nil)
	if s := h.verify(t, token); s.Rule != gateway.RuleSignatureKey || h.asked != 1 {
		t.Errorf("%+v, asked %d times", s, h.asked)
	}
	h.Refresh = func(ctx context.Context, _ *gateway.Peer, _ *gateway.Certificate) (*gateway.Certificate, error) {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("the learner waits without a limit")
		}
		return h.next.Certificate(), nil
	}
	if s := h.verify(t, token); !s.Intact() {
		t.Errorf("%+v", s)
	}
	stranger := newKey(t, h.peer.Wwwroot, now)
	if s := h.verify(t, h.sign(t, stranger, nil)); s.Rule != gateway.RuleSignatureKey {
		t.Errorf("the peer has another key than the link: %+v", s)
	}
	h.Certificates = func(context.Context, *gateway.Peer) ([]*gateway.Certificate, error) {
		return nil, errors.New("not known")
	}
	if s := h.verify(t, token); s.Rule != gateway.RuleSignatureKey {
		t.Errorf("nothing is known of the peer: %+v", s)
	}
}

// forged returns a token with any header and claims, signed by sign.
func forged(header, claims map[string]any, sign func(text []byte) []byte) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(text)))
}

func TestHostileTokens(t *testing.T) {
	h := newHome(t)
	kid := func(key *mnet.Key) string {
		return strings.TrimPrefix(key.Certificate().Fingerprint().String(), "SHA256:")
	}
	rs256 := func(key *mnet.Key) func([]byte) []byte {
		return func(text []byte) []byte {
			b, err := key.SignSHA256(text)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	hs256 := func(secret []byte) func([]byte) []byte {
		return func(text []byte) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write(text)
			return mac.Sum(nil)
		}
	}
	der, err := x509.MarshalPKIXPublicKey(h.current.Certificate().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	other := newKey(t, wwwroot(t, "https://college.test"), now)
	good, whole := h.sign(t, h.current, nil), rs256(h.current)
	cut := strings.Split(good, ".")

	for _, test := range []struct {
		name           string
		header, claims map[string]any // what differs; a nil value is left out
		sign           func([]byte) []byte
		rule           gateway.Rule
	}{
		{"the good one", nil, nil, whole, gateway.RuleOK},
		{"alg none", map[string]any{"alg": "none"}, nil, func([]byte) []byte { return nil }, gateway.RuleSignatureMalformed},
		{"alg none with a signature", map[string]any{"alg": "none"}, nil, whole, gateway.RuleSignatureMalformed},
		{"alg NONE", map[string]any{"alg": "NONE"}, nil, func([]byte) []byte { return nil }, gateway.RuleSignatureMalformed},
		{"no alg", map[string]any{"alg": nil}, nil, whole, gateway.RuleSignatureMalformed},
		{"HS256 with the public key, PEM", map[string]any{"alg": "HS256"}, nil, hs256(public), gateway.RuleSignatureMalformed},
		{"HS256 with the public key, DER", map[string]any{"alg": "HS256"}, nil, hs256(der), gateway.RuleSignatureMalformed},
		{"HS256 with the certificate", map[string]any{"alg": "HS256"}, nil, hs256([]byte(h.current.Certificate().PEM())), gateway.RuleSignatureMalformed},
		{"HS256 with nothing", map[string]any{"alg": "HS256"}, nil, hs256(nil), gateway.RuleSignatureMalformed},
		{"HS256 that says RS256", nil, nil, hs256(public), gateway.RuleSignatureInvalid},
		{"RS384", map[string]any{"alg": "RS384"}, nil, whole, gateway.RuleSignatureMalformed},
		{"PS256", map[string]any{"alg": "PS256"}, nil, whole, gateway.RuleSignatureMalformed},
		{"ES256", map[string]any{"alg": "ES256"}, nil, whole, gateway.RuleSignatureMalformed},
		{"an algorithm that is a number", map[string]any{"alg": 256}, nil, whole, gateway.RuleSignatureMalformed},
		{"another RSA key", nil, nil, rs256(other), gateway.RuleSignatureInvalid},
		{"another RSA key by its own name", map[string]any{"kid": kid(other)}, nil, rs256(other), gateway.RuleSignatureKey},
		{"the peer's former key under the name of the current one", nil, nil, rs256(h.former), gateway.RuleSignatureInvalid},
		{"an MNet signature, which is SHA-1's", nil, nil, func(text []byte) []byte { return mnetSignature(t, h.current, text) }, gateway.RuleSignatureInvalid},
		{"no signature", nil, nil, func([]byte) []byte { return nil }, gateway.RuleSignatureInvalid},
		{"no typ", map[string]any{"typ": nil}, nil, whole, gateway.RuleSignatureMalformed},
		{"any JWT", map[string]any{"typ": "JWT"}, nil, whole, gateway.RuleSignatureMalformed},
		{"another type's letters", map[string]any{"typ": "Jumpgate-Link+JWT"}, nil, whole, gateway.RuleSignatureMalformed},
		{"no kid", map[string]any{"kid": nil}, nil, whole, gateway.RuleSignatureMalformed},
		{"a kid that nobody has", map[string]any{"kid": strings.Repeat("0", 63) + "1"}, nil, whole, gateway.RuleSignatureKey},
		{"a kid that is a path", map[string]any{"kid": "../../etc/passwd"}, nil, whole, gateway.RuleSignatureKey},
		{"a kid in upper case", map[string]any{"kid": strings.ToUpper(kid(h.current))}, nil, whole, gateway.RuleSignatureKey},
		{"a kid that is a list", map[string]any{"kid": []string{kid(h.current)}}, nil, whole, gateway.RuleSignatureMalformed},
		{"a key of its own", map[string]any{"jwk": map[string]any{"kty": "RSA"}}, nil, whole, gateway.RuleSignatureMalformed},
		{"an address of a key", map[string]any{"jku": "https://evil.test/keys"}, nil, whole, gateway.RuleSignatureMalformed},
		{"critical fields", map[string]any{"crit": []string{"b64"}, "b64": false}, nil, whole, gateway.RuleSignatureMalformed},
		{"another forum", nil, map[string]any{"iss": "https://college.test"}, whole, gateway.RuleSignatureOther},
		{"another peer's link with its own key", map[string]any{"kid": kid(other)}, map[string]any{"iss": "https://college.test"}, rs256(other), gateway.RuleSignatureKey},
		{"no forum", nil, map[string]any{"iss": nil}, whole, gateway.RuleSignatureOther},
		{"the forum in another spelling", nil, map[string]any{"iss": "https://forum.test/"}, whole, gateway.RuleSignatureOther},
		{"another home", nil, map[string]any{"aud": "https://college.test"}, whole, gateway.RuleSignatureOther},
		{"our host without our path", nil, map[string]any{"aud": "https://home.test"}, whole, gateway.RuleSignatureOther},
		{"several homes, ours among them", nil, map[string]any{"aud": []string{"https://home.test/moodle", "https://college.test"}}, whole, gateway.RuleSignatureMalformed},
		{"no home", nil, map[string]any{"aud": nil}, whole, gateway.RuleSignatureMalformed},
		{"another page", nil, map[string]any{"wantsurl": "/user/edit.php"}, whole, gateway.RuleSignatureOther},
		{"the page without its fragment", nil, map[string]any{"wantsurl": strings.TrimSuffix(wantsurl, "#p3")}, whole, gateway.RuleSignatureOther},
		{"no page", nil, map[string]any{"wantsurl": nil}, whole, gateway.RuleSignatureOther},
		{"expired", nil, map[string]any{"exp": now.Unix() - 1}, whole, gateway.RuleSignatureExpired},
		{"expiring now", nil, map[string]any{"exp": now.Unix()}, whole, gateway.RuleSignatureExpired},
		{"as long as we accept", nil, map[string]any{"exp": now.Add(maxLife).Unix()}, whole, gateway.RuleOK},
		{"longer", nil, map[string]any{"exp": now.Add(maxLife).Unix() + 1}, whole, gateway.RuleSignatureTooLong},
		{"for a thousand years", nil, map[string]any{"exp": now.AddDate(1000, 0, 0).Unix()}, whole, gateway.RuleSignatureTooLong},
		{"no end", nil, map[string]any{"exp": nil}, whole, gateway.RuleSignatureMalformed},
		{"an end that is text", nil, map[string]any{"exp": "tomorrow"}, whole, gateway.RuleSignatureMalformed},
		{"not yet good", nil, map[string]any{"nbf": now.Unix() + 60}, whole, gateway.RuleSignatureMalformed},
		{"no id", nil, map[string]any{"jti": nil}, whole, gateway.RuleSignatureMalformed},
		{"a long id", nil, map[string]any{"jti": strings.Repeat("x", 129)}, whole, gateway.RuleSignatureMalformed},
		{"an id with a line break", nil, map[string]any{"jti": "a\nb"}, whole, gateway.RuleSignatureMalformed},
		{"an id that logs write in another way", nil, map[string]any{"jti": `a"b`}, whole, gateway.RuleSignatureMalformed},
		{"a subject that is a name", nil, map[string]any{"sub": "ada"}, whole, gateway.RuleSignatureMalformed},
	} {
		header := map[string]any{"typ": "jumpgate-link+jwt", "alg": "RS256", "kid": kid(h.current)}
		claims := map[string]any{
			"iss": "https://forum.test", "aud": "https://home.test/moodle", "wantsurl": wantsurl, "exp": now.Unix() + 60, "jti": "1",
		}
		maps.Copy(header, test.header)
		maps.Copy(claims, test.claims)
		for _, m := range []map[string]any{header, claims} {
			maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
		}
		if s := h.verify(t, forged(header, claims, test.sign)); s.Rule != test.rule {
			t.Errorf("%s: %s, want %s", test.name, s.Rule, test.rule)
		}
	}

	for name, token := range map[string]string{
		"a token without its signature": cut[0] + "." + cut[1] + ".", "two parts": cut[0] + "." + cut[1], "four parts": good + ".x",
		"padding": good + "=", "a blank": good + " ", "a line break": strings.Replace(good, ".", ".\n", 1), "standard base64": strings.Replace(good, cut[2], strings.Repeat("+/", 128), 1),
		"100 KB": good + strings.Repeat("A", 100<<10), "100 KB of dots": strings.Repeat(".", 100<<10), "null": "bnVsbA.bnVsbA.bnVsbA", "text": "x",
		"one bit of the signature": flipped(good, len(good)-9), "one bit of the claims": flipped(good, len(cut[0])+9), "spare bits": spare(good),
	} {
		if s := h.verify(t, token); s.Intact() || s.Rule == "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestWhatCannotBeRevokedIsNotRead(t *testing.T) {
	h := newHome(t)
	good := h.sign(t, h.current, nil)
	parts := strings.Split(good, ".")
	for name, text := range map[string]string{
		"a link without a signature": "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/", "a link with two": "?link=" + good + "&link=" + good,
		"a damaged link": "?link=%zz", "a damaged token": good[1:], "two parts": parts[0] + "." + parts[1],
		"another token": forged(map[string]any{"alg": "none"}, map[string]any{"exp": 1}, func([]byte) []byte { return nil }),
		"100 KB":        good + strings.Repeat("A", 100<<10),
	} {
		if id, _, err := link.Read(text); err == nil || strings.Contains(err.Error(), parts[2]) {
			t.Errorf("%s: %q, %v", name, id, err)
		}
	}
}

func mnetSignature(t *testing.T, key *mnet.Key, text []byte) []byte {
	t.Helper()
	doc, err := mnet.Sign(text, key, wwwroot(t, "https://forum.test"), now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := mnet.ParseSigned(doc)
	if err != nil {
		t.Fatal(err)
	}
	return s.Signature
}

// flipped returns a token with another letter at i.
func flipped(token string, i int) string {
	letter := byte('A')
	if token[i] == letter {
		letter = 'B'
	}
	return token[:i] + string(letter) + token[i+1:]
}

// spare returns a token with the bits set that its last letter has to spare:
// 256 bytes of signature end with two letters of which the last has two.
func spare(token string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(letters, token[len(token)-1])
	return token[:len(token)-1] + string(letters[i|1])
}

func FuzzVerify(f *testing.F) {
	h := newHome(f)
	good := h.sign(f, h.current, func(l *link.Link) { l.Username = "ada" })
	f.Add(good)
	f.Add(hex.EncodeToString([]byte(good)))
	f.Add(strings.Split(good, ".")[0] + ".." + strings.Split(good, ".")[2])
	f.Fuzz(func(t *testing.T, token string) {
		if s := h.Verify(t.Context(), token, h.peer, wantsurl, h.page); s.Intact() && token != good {
			t.Errorf("%q is taken for %+v", token, s)
		}
		if id, _, err := link.Read(token); err == nil && id == "" {
			t.Error("a token without an id was read")
		}
	})
}
