package sp

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"jumpgate/gateway/mnet"
)

// KeySetPath is where, below the wwwroot, the public keys of assertions are.
const KeySetPath = "/.well-known/jwks.json"

// The algorithms of assertions.
const (
	AlgorithmEdDSA = "EdDSA" // Ed25519
	AlgorithmRS256 = "RS256" // for applications that know nothing else
)

const (
	// keyPeriod is how long a key of AlgorithmEdDSA signs.
	keyPeriod = 30 * 24 * time.Hour
	// formerKept is how long the key set has what was derived from an MNet key
	// that is one no longer: until every gateway has changed to the next one,
	// and what they have signed before is over.
	formerKept = time.Hour
)

// A signingKey signs assertions.
//
// Those of AlgorithmEdDSA are derived from the MNet key of the site, of which the
// gateways of a site take care that they all have the same: one for each
// keyPeriod, so that all change to the next at once, which the key set has before
// that. A new MNet key makes new ones of all. AlgorithmRS256 is the MNet key
// itself, whose other signatures are made with SHA-1, or are of another type.
type signingKey struct {
	id     string // RFC 7638
	method jwt.SigningMethod
	public jwk
	sign   func(message []byte) ([]byte, error)
}

// jwk is a public key in a key set. The order of its fields, which are those that
// RFC 7638 counts, is that of its section 3.3.
type jwk struct {
	Curve    string `json:"crv,omitempty"`
	Exponent string `json:"e,omitempty"`
	Type     string `json:"kty"`
	Modulus  string `json:"n,omitempty"`
	X        string `json:"x,omitempty"`
}

// published is a jwk as the key set has it.
type published struct {
	jwk
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
}

// signingKeys remembers the current key.
type signingKeys struct {
	mu     sync.Mutex
	root   *mnet.Key
	period int64
	key    *signingKey
}

// current returns the key that signs now.
func (s *Assertions) current(now time.Time) (*signingKey, error) {
	roots := s.Keys()
	if len(roots) == 0 {
		return nil, errors.New("the site has no key")
	}
	root, period := roots[0], periodOf(now)
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	if s.keys.key == nil || s.keys.root != root || s.keys.period != period {
		s.keys.root, s.keys.period, s.keys.key = root, period, s.derive(root, period)
	}
	return s.keys.key, nil
}

func periodOf(t time.Time) int64 { return t.Unix() / int64(keyPeriod/time.Second) }

// derive returns the key of a period.
func (s *Assertions) derive(root *mnet.Key, period int64) *signingKey {
	if s.Algorithm == AlgorithmRS256 {
		return newSigningKey(jwt.SigningMethodRS256, rsaJWK(root.Certificate().PublicKey), root.SignSHA256)
	}
	seed := root.Derive("assertion Ed25519 " + strconv.FormatInt(period, 10))
	private := ed25519.NewKeyFromSeed(seed[:])
	public := jwk{Type: "OKP", Curve: "Ed25519", X: encoded(private.Public().(ed25519.PublicKey))}
	return newSigningKey(jwt.SigningMethodEdDSA, public, func(message []byte) ([]byte, error) {
		return ed25519.Sign(private, message), nil
	})
}

func rsaJWK(public *rsa.PublicKey) jwk {
	return jwk{Type: "RSA", Modulus: encoded(public.N.Bytes()), Exponent: encoded(big.NewInt(int64(public.E)).Bytes())}
}

func newSigningKey(method jwt.SigningMethod, public jwk, sign func([]byte) ([]byte, error)) *signingKey {
	text, err := json.Marshal(public)
	if err != nil { // it is our own
		panic(err)
	}
	sum := sha256.Sum256(text)
	return &signingKey{encoded(sum[:]), method, public, sign}
}

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// KeySet returns the public keys of all assertions that are good now, or soon, as
// a JSON Web Key Set (RFC 7517).
func (s *Assertions) KeySet() ([]byte, error) {
	now := s.Now()
	set := struct {
		Keys []published `json:"keys"`
	}{Keys: []published{}}
	known := map[string]bool{}
	for i, root := range s.Keys() {
		periods := []int64{periodOf(now), periodOf(now) + 1, periodOf(now) - 1}
		if i > 0 {
			if now.Sub(root.Archived()) > formerKept {
				continue
			}
			periods = []int64{periodOf(now), periodOf(now.Add(-formerKept))}
		}
		for _, period := range periods {
			if key := s.derive(root, period); !known[key.id] {
				known[key.id] = true
				set.Keys = append(set.Keys, published{key.public, key.id, key.method.Alg(), "sig"})
			}
		}
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return text, nil
}
