package mnet

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"jumpgate/gateway"
)

// MaxArchived is how many former keys of a site are kept, as Mahara does
// (section 2): messages that were sealed for one of them can still be opened,
// and their senders be told the new one.
const MaxArchived = 6

// Keyring holds the keys of a site in a directory: the current one in
// key.pem, former ones in keys/, one file each, named by fingerprint. What
// changes there, by another process too, is taken up by Settle. It may be used
// by many goroutines at once.
type Keyring struct {
	KeyringOptions

	state   string // names the directory among those of several gateways
	keys    atomic.Pointer[[]*Key]
	failure atomic.Pointer[error] // of Watch

	mu         sync.Mutex          // of changes
	stamp      string              // of the files as they were read last
	generation int64               // of the current key: how often it was changed before
	agreed     gateway.Fingerprint // what Registry said last
	states     []string            // of the live gateways, likewise
	offered    gateway.Fingerprint // of the key that other gateways can fetch
	configured *Key                // what Want was given and Settle has not taken up
	wanted     *Key                // that Settle is to change to
	pending    *Key                // made for a rotation that has not been agreed on yet
}

// KeyringOptions says what a Keyring works with. Dir and Site are required.
type KeyringOptions struct {
	Dir      string            // the site's own below the state directory
	Site     gateway.Wwwroot   // whom the keys name
	Aliases  []gateway.Wwwroot // whom they may name too: the site before it moved
	Import   string            // file of a key to begin with, or to change to; see Want
	Registry Registry          // where the gateways of the site agree on a key; nil for one that is alone
	Secret   []byte            // under which a new key travels through Registry; nil for never
	Gateway  string            // a name for this process that no other has; empty for one that only asks
	Now      func() time.Time  // nil for time.Now
	Changed  func(KeyChange)   // is told by Watch of the site's new keys; may be nil
}

const (
	currentKey   = "key.pem"
	keysDir      = "keys"
	importedFile = "imported"   // in keys/: fingerprint of the configured key that was taken up last
	stateFile    = "state-id"   // in keys/: names the directory among several
	countFile    = "generation" // in keys/: how often the current key was changed
)

// OpenKeyring reads the keys of a site, or makes a first one with
// DefaultLifetime, or of KeyringOptions.Import; created says whether it did. Two processes may do so at once on a
// shared directory. It refuses keys that anybody but owner and group may read,
// and keys whose certificate names neither the site nor an alias.
func OpenKeyring(o KeyringOptions) (r *Keyring, created bool, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	r = &Keyring{KeyringOptions: o}
	if err := os.Mkdir(filepath.Join(o.Dir, keysDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	_, none := os.Stat(filepath.Join(o.Dir, currentKey))
	if o.Import != "" {
		if err := r.Want(o.Import); err != nil {
			return nil, false, err
		}
	}
	if _, created, err = LoadOrCreateKey(filepath.Join(o.Dir, currentKey), o.Site, o.Now(), o.Aliases...); err != nil {
		return nil, false, err
	}
	created = created || errors.Is(none, fs.ErrNotExist)
	if err := createFile(r.file(stateFile), []byte(rand.Text()+"\n"), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	state, _, err := readFile(r.file(stateFile))
	if err != nil {
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	r.state = strings.TrimSpace(string(state))
	return r, created, r.read()
}

// Want takes up the key in a file that an administrator has configured, unless
// that was done before: then the site may have another one since. Where the
// site has a key already, Settle changes to the wanted one, for all gateways.
func (r *Keyring) Want(file string) error {
	key, err := LoadKey(file, r.Site, r.Aliases...)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, _, err := readFile(r.file(importedFile)); err == nil && strings.TrimSpace(string(b)) == key.certificate.Fingerprint().String() {
		return nil
	}
	switch err := createFile(filepath.Join(r.Dir, currentKey), key.PEM(), 0o600); {
	case errors.Is(err, fs.ErrExist):
		r.configured, r.wanted = key, key
		return nil
	case err != nil:
		return fmt.Errorf("import key: %w", err)
	}
	return r.markImported(key)
}

func (r *Keyring) markImported(key *Key) error {
	return replaceFile(r.file(importedFile), []byte(key.certificate.Fingerprint().String()+"\n"), 0o600)
}

// Accompanied reports whether gateways of the site were running at the last
// Settle.
func (r *Keyring) Accompanied() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.states) > 0
}

// SetSecret replaces the secret under which new keys travel.
func (r *Keyring) SetSecret(secret []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !bytes.Equal(r.Secret, secret) {
		r.Secret, r.offered = secret, gateway.Fingerprint{} // to be offered anew
	}
}

// Keys returns the current key and then the archived ones, the latest first.
// The slice must not be changed.
func (r *Keyring) Keys() []*Key { return *r.keys.Load() }

// Current returns the key that the site signs with.
func (r *Keyring) Current() *Key { return r.Keys()[0] }

// Secrets returns a secret for one purpose, as Key.Derive does, from each of
// the keys: use the first, accept them all.
func (r *Keyring) Secrets(label string) [][32]byte {
	keys := r.Keys()
	secrets := make([][32]byte, len(keys))
	for i, key := range keys {
		secrets[i] = key.Derive(label)
	}
	return secrets
}
