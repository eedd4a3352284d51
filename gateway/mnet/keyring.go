package mnet

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
// key.pem, others in keys/, one file each, named by fingerprint. What changes
// there, by another process too, is taken up by Settle. It may be used by many
// goroutines at once.
type Keyring struct {
	KeyringOptions

	state   string // names the directory among those of several gateways
	keys    atomic.Pointer[[]*Key]
	failure atomic.Pointer[error] // of Watch

	mu      sync.Mutex          // of changes
	stamp   string              // of the files as they were read last
	agreed  gateway.Fingerprint // what Registry said last
	states  []string            // of the live gateways, likewise
	offered gateway.Fingerprint // of the key that other gateways can fetch
	wanted  *Key                // that Settle is to change to
	pending *Key                // made for a rotation that has not been agreed on yet
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
	importedFile = "imported" // in keys/: fingerprint of the key that was imported last
	stateFile    = "state-id" // in keys/: names the directory among several
)

// OpenKeyring reads the keys of a site, or makes a first one with
// DefaultLifetime; created says which. Two processes may do so at once on a
// shared directory. It refuses keys that anybody but owner and group may read,
// and keys whose certificate names neither the site nor an alias.
func OpenKeyring(o KeyringOptions) (r *Keyring, created bool, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	r = &Keyring{KeyringOptions: o}
	if err := os.Mkdir(filepath.Join(o.Dir, keysDir), 0o700); err == nil {
		err = ownAsDir(filepath.Join(o.Dir, keysDir), o.Dir)
		if err != nil {
			return nil, false, fmt.Errorf("keys: %w", err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	if o.Import != "" {
		if err := r.Want(o.Import); err != nil {
			return nil, false, err
		}
	}
	if _, created, err = LoadOrCreateKey(filepath.Join(o.Dir, currentKey), o.Site, o.Now(), o.Aliases...); err != nil {
		return nil, false, err
	}
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
		r.wanted = key
		return nil
	case err != nil:
		return fmt.Errorf("import key: %w", err)
	}
	return r.markImported(key)
}

func (r *Keyring) markImported(key *Key) error {
	return replaceFile(r.file(importedFile), []byte(key.certificate.Fingerprint().String()+"\n"), 0o600)
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

func (r *Keyring) file(name string) string { return filepath.Join(r.Dir, keysDir, name) }

func (r *Keyring) keyFile(f gateway.Fingerprint) string {
	return r.file(strings.TrimPrefix(f.String(), "SHA256:")[:32] + ".pem")
}

// read reads the files if they have changed.
func (r *Keyring) read() error {
	entries, err := os.ReadDir(filepath.Join(r.Dir, keysDir))
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	files := []string{filepath.Join(r.Dir, currentKey)}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == ".pem" && !strings.HasPrefix(entry.Name(), ".") {
			files = append(files, r.file(entry.Name()))
		}
	}
	modified := map[string]time.Time{}
	var stamp strings.Builder
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("key: %w", err)
		}
		modified[file] = info.ModTime()
		fmt.Fprintln(&stamp, file, info.ModTime().UnixNano(), info.Size())
	}
	if stamp.String() == r.stamp {
		return nil
	}
	slices.SortStableFunc(files[1:], func(a, b string) int {
		return cmp.Or(modified[b].Compare(modified[a]), cmp.Compare(a, b))
	})
	var keys []*Key
	for _, file := range files[:min(len(files), 1+MaxArchived)] {
		key, err := LoadKey(file, r.Site, r.Aliases...)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(keys, key.same) {
			keys = append(keys, key)
		}
	}
	r.keys.Store(&keys)
	r.stamp = stamp.String()
	return nil
}

func (k *Key) same(other *Key) bool {
	return k.certificate.Fingerprint() == other.certificate.Fingerprint()
}

// find returns the key with that fingerprint, if it is among the files.
func (r *Keyring) find(f gateway.Fingerprint) *Key {
	for _, key := range r.Keys() {
		if key.certificate.Fingerprint() == f {
			return key
		}
	}
	if key, err := LoadKey(r.keyFile(f), r.Site, r.Aliases...); err == nil && key.certificate.Fingerprint() == f {
		return key
	}
	return nil
}

// add writes a key to the files without making it the current one.
func (r *Keyring) add(key *Key) error {
	err := createFile(r.keyFile(key.certificate.Fingerprint()), key.PEM(), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep key: %w", err)
	}
	return nil
}

// replace makes key the current one and archives the former. Whenever it is
// interrupted, no key is lost.
func (r *Keyring) replace(key *Key) error {
	file := filepath.Join(r.Dir, currentKey)
	if old, err := LoadKey(file, r.Site, r.Aliases...); err == nil {
		if old.same(key) {
			return nil
		}
		if err := r.add(old); err != nil {
			return err
		}
		now := time.Now() // by which the archive is ordered
		if err := os.Chtimes(r.keyFile(old.certificate.Fingerprint()), now, now); err != nil {
			return fmt.Errorf("archive key: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := replaceFile(file, key.PEM(), 0o600); err != nil {
		return fmt.Errorf("change key: %w", err)
	}
	return nil
}

// promote is replace, followed by throwing away what is too old.
func (r *Keyring) promote(key *Key) error {
	if err := r.replace(key); err != nil {
		return err
	}
	if err := r.read(); err != nil {
		return err
	}
	return r.prune()
}

// prune removes the archived keys that are not among Keys.
func (r *Keyring) prune() error {
	entries, err := os.ReadDir(filepath.Join(r.Dir, keysDir))
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	kept := map[string]bool{}
	for _, key := range r.Keys() {
		kept[r.keyFile(key.certificate.Fingerprint())] = true
	}
	for _, entry := range entries {
		if file := r.file(entry.Name()); filepath.Ext(file) == ".pem" && !kept[file] {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return errors.Join(err, r.read())
}
