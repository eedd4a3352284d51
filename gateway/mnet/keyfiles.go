package mnet

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
)

const (
	archivedKey = ".pem"     // a former key, in keys/
	offeredKey  = ".offered" // one that may become the current one
	// offeredLife is how long one that did not is kept: longer than any
	// gateway takes to agree on it.
	offeredLife = time.Hour
)

func (r *Keyring) file(name string) string { return filepath.Join(r.Dir, keysDir, name) }

func (r *Keyring) keyFile(f gateway.Fingerprint, kind string) string {
	return r.file(strings.TrimPrefix(f.String(), "SHA256:")[:32] + kind)
}

// ofKind returns the files of that kind in keys/.
func (r *Keyring) ofKind(kind string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.Dir, keysDir))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	var files []string
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == kind && !strings.HasPrefix(entry.Name(), ".") {
			files = append(files, r.file(entry.Name()))
		}
	}
	return files, nil
}

// read reads the files if they have changed.
func (r *Keyring) read() error {
	archived, err := r.ofKind(archivedKey)
	if err != nil {
		return err
	}
	files := append([]string{filepath.Join(r.Dir, currentKey)}, archived...)
	modified := map[string]time.Time{}
	var stamp strings.Builder
	for _, file := range append([]string{r.file(countFile)}, files...) {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) && file != files[0] {
			continue // just thrown away, or never changed
		}
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
	for _, file := range files {
		key, err := LoadKey(file, r.Site, r.Aliases...)
		if errors.Is(err, fs.ErrNotExist) && file != files[0] {
			continue
		}
		if err != nil {
			return err
		}
		if file != files[0] {
			key.archived = modified[file]
		}
		if !slices.ContainsFunc(keys, key.same) {
			keys = append(keys, key)
		}
		if len(keys) == 1+MaxArchived {
			break
		}
	}
	r.keys.Store(&keys)
	r.generation = r.count()
	r.stamp = stamp.String()
	return nil
}

func (k *Key) same(other *Key) bool {
	return k.certificate.Fingerprint() == other.certificate.Fingerprint()
}

// count returns how often the current key was changed, as far as it is known
// here.
func (r *Keyring) count() int64 {
	b, _, err := readFile(r.file(countFile))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// find returns the key with that fingerprint, if it is among the files.
func (r *Keyring) find(f gateway.Fingerprint) *Key {
	for _, key := range r.Keys() {
		if key.certificate.Fingerprint() == f {
			return key
		}
	}
	for _, file := range []string{r.keyFile(f, offeredKey), r.keyFile(f, archivedKey), filepath.Join(r.Dir, currentKey)} {
		if key, err := LoadKey(file, r.Site, r.Aliases...); err == nil && key.certificate.Fingerprint() == f {
			return key
		}
	}
	return nil
}

// keep writes a key to the files without making it the current one.
func (r *Keyring) keep(key *Key, kind string) error {
	err := createFile(r.keyFile(key.certificate.Fingerprint(), kind), key.PEM(), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep key: %w", err)
	}
	return nil
}

// promote makes key the current one, archives the former and throws away what
// is too old. Whenever it is interrupted, no key is lost.
func (r *Keyring) promote(key *Key, generation int64) error {
	file := filepath.Join(r.Dir, currentKey)
	if old, err := LoadKey(file, r.Site, r.Aliases...); err == nil && !old.same(key) {
		if err := r.keep(old, archivedKey); err != nil {
			return err
		}
		now := time.Now() // by which the archive is ordered
		if err := os.Chtimes(r.keyFile(old.certificate.Fingerprint(), archivedKey), now, now); err != nil {
			return fmt.Errorf("archive key: %w", err)
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := replaceFile(file, key.PEM(), 0o600); err != nil {
		return fmt.Errorf("change key: %w", err)
	}
	if err := r.setCount(generation); err != nil {
		return err
	}
	r.withdraw(key)
	if err := r.read(); err != nil {
		return err
	}
	return r.prune()
}

func (r *Keyring) setCount(generation int64) error {
	if err := replaceFile(r.file(countFile), []byte(strconv.FormatInt(generation, 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("change key: %w", err)
	}
	r.generation = generation
	return nil
}

// withdraw removes what was kept of a key that is offered no longer.
func (r *Keyring) withdraw(key *Key) {
	_ = os.Remove(r.keyFile(key.certificate.Fingerprint(), offeredKey)) // or prune does, in time
}

// prune removes the archived keys that are not among Keys, and those that
// never came to be used.
func (r *Keyring) prune() error {
	archived, err := r.ofKind(archivedKey)
	if err != nil {
		return err
	}
	offered, err := r.ofKind(offeredKey)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, key := range r.Keys() {
		kept[r.keyFile(key.certificate.Fingerprint(), archivedKey)] = true
	}
	var gone []string
	for _, file := range archived {
		if !kept[file] {
			gone = append(gone, file)
		}
	}
	for _, file := range offered {
		if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > offeredLife {
			gone = append(gone, file)
		}
	}
	for _, file := range gone {
		if e := os.Remove(file); e != nil && !errors.Is(e, fs.ErrNotExist) { // another process was faster
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, r.read())
}
