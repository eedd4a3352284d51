package moodletest

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
)

// Application is a stand-in for an application that is no Moodle, behind a gateway
// that tells it who makes a request. All its pages but the first show what the
// demo's forum talks about, under the same address as there, to those who are logged
// in: others are answered 401. It verifies assertions by itself, with nothing but the
// standard library, as an application without a library for JWTs would.
type Application struct {
	// Redirects is as in ForumOptions; nil says nothing.
	Redirects func(*http.Request) string

	wwwroot gateway.Wwwroot
	mux     *http.ServeMux
	now     func() time.Time

	mu   sync.Mutex
	keys map[string]webKey // by kid
}

// NewApplication returns the application of a site, which fetches its keys there.
// now may be nil.
func NewApplication(wwwroot gateway.Wwwroot, now func() time.Time) *Application {
	a := &Application{wwwroot: wwwroot, mux: http.NewServeMux(), now: now}
	if now == nil {
		a.now = time.Now
	}
	root := wwwroot.Path()
	a.mux.HandleFunc("GET "+root+"/{$}", func(w http.ResponseWriter, r *http.Request) { a.page(w, r, false) })
	a.mux.HandleFunc("GET "+root+"/", func(w http.ResponseWriter, r *http.Request) { a.page(w, r, true) })
	return a
}

func (a *Application) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// page shows the discussion, or the front page.
func (a *Application) page(w http.ResponseWriter, r *http.Request, private bool) {
	var claims map[string]any
	if values := r.Header["Jumpgate-Assertion"]; len(values) > 0 {
		var err error
		if claims, err = a.Verify(r.Context(), strings.Join(values, ",")); err != nil {
			http.Error(w, "the assertion is not to be believed: "+err.Error(), http.StatusForbidden)
			return
		}
	}
	data := map[string]any{"Root": a.wwwroot.String(), "Claims": claims, "Page": SampleDeepLink}
	status := http.StatusOK
	if private && claims == nil {
		status = http.StatusUnauthorized
		data["Asked"] = strings.TrimPrefix(r.URL.RequestURI(), a.wwwroot.Path())
	} else if private {
		data["Discussion"] = SampleDiscussions(a.now())[0]
		if a.Redirects != nil {
			data["Redirects"] = a.Redirects(r)
		}
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = templates.ExecuteTemplate(w, "application.html", data) // or the browser is gone
}

// webKey is a key as a key set has it (RFC 7517).
type webKey struct {
	ID        string `json:"kid"`
	Type      string `json:"kty"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	N         string `json:"n"`
	E         string `json:"e"`
}

// Verify returns the claims of an assertion that is to be believed.
func (a *Application) Verify(ctx context.Context, token string) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("not three parts")
	}
	var header struct{ Alg, Typ, Kid string }
	var claims map[string]any
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err := errors.Join(err, decodePart(parts[0], &header), decodePart(parts[1], &claims)); err != nil {
		return nil, err
	}
	if header.Typ != "jumpgate-assertion+jwt" {
		return nil, fmt.Errorf("type %q", header.Typ)
	}
	key, err := a.key(ctx, header.Kid)
	if err != nil {
		return nil, err
	}
	if header.Alg != key.Algorithm { // the key says how, not the token
		return nil, fmt.Errorf("algorithm %q", header.Alg)
	}
	if err := key.verify(parts[0]+"."+parts[1], signature); err != nil {
		return nil, err
	}
	now := float64(a.now().Unix())
	exp, _ := claims["exp"].(float64)
	nbf, _ := claims["nbf"].(float64)
	switch {
	case claims["iss"] != a.wwwroot.String() || claims["aud"] != a.wwwroot.String():
		return nil, fmt.Errorf("issuer %v, audience %v", claims["iss"], claims["aud"])
	case now >= exp || now < nbf:
		return nil, fmt.Errorf("good from %.0f to %.0f", nbf, exp)
	}
	return claims, nil
}

func decodePart(part string, to any) error {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

// key returns the key with that id. One that is not known is fetched.
func (a *Application) key(ctx context.Context, id string) (webKey, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if key, ok := a.keys[id]; ok {
		return key, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.wwwroot.String()+"/.well-known/jwks.json", nil)
	if err != nil {
		return webKey{}, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return webKey{}, err
	}
	defer res.Body.Close()
	var set struct{ Keys []webKey }
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&set); err != nil {
		return webKey{}, err
	}
	a.keys = map[string]webKey{}
	for _, key := range set.Keys {
		a.keys[key.ID] = key
	}
	if key, ok := a.keys[id]; ok {
		return key, nil
	}
	return webKey{}, fmt.Errorf("no key %q", id)
}

func (k webKey) verify(text string, signature []byte) error {
	x, err1 := base64.RawURLEncoding.DecodeString(k.X)
	n, err2 := base64.RawURLEncoding.DecodeString(k.N)
	e, err3 := base64.RawURLEncoding.DecodeString(k.E)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	switch {
	case k.Use != "sig":
		return fmt.Errorf("a key for %q", k.Use)
	case k.Algorithm == "EdDSA" && k.Type == "OKP" && k.Curve == "Ed25519" && len(x) == ed25519.PublicKeySize:
		if !ed25519.Verify(x, []byte(text), signature) {
			return errors.New("wrong signature")
		}
		return nil
	case k.Algorithm == "RS256" && k.Type == "RSA" && len(n) >= 256 && len(e) <= 4:
		sum := sha256.Sum256([]byte(text))
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature)
	}
	return fmt.Errorf("a key of type %q for %q", k.Type, k.Algorithm)
}
