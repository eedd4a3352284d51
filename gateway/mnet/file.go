package mnet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// createFile makes a file that nobody ever sees half written. If it exists,
// nothing happens and the error is fs.ErrExist: of several processes on a
// shared folder, one wins and the others read what it wrote.
func createFile(name string, content []byte, mode os.FileMode) error {
	dir := filepath.Dir(name)
	temp, err := writeTemp(dir, content, mode)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, name); err != nil {
		return err
	}
	return syncDir(dir)
}

// replaceFile makes a file or takes the place of one, all at once.
func replaceFile(name string, content []byte, mode os.FileMode) error {
	dir := filepath.Dir(name)
	temp, err := writeTemp(dir, content, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(dir)
}

// writeTemp writes a file under a name of its own.
func writeTemp(dir string, content []byte, mode os.FileMode) (name string, err error) {
	temp, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = temp.Write(content)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return "", errors.Join(err, os.Remove(temp.Name()))
	}
	return temp.Name(), nil
}

// syncDir makes a new name in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readAll reads at most limit bytes and fails on more.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

// maxFile bounds the files of keys and pins, in bytes.
const maxFile = 64 << 10

// readUpTo reads a file of at most limit bytes.
func readUpTo(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit)
}

func readFile(name string) ([]byte, fs.FileInfo, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, nil, fmt.Errorf("%s is not a file of at most %d bytes", name, maxFile)
	}
	b, err := readAll(f, maxFile)
	return b, info, err
}
