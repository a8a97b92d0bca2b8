//! As much of the tar format as the captures need.

/// The contents of the plain files of a tar archive.
pub fn untar(mut archive: &[u8]) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    while archive.len() >= 512 && archive[0] != 0 {
        let size = std::str::from_utf8(&archive[124..135]).unwrap().trim_matches(['\0', ' ']);
        let size = usize::from_str_radix(size, 8).unwrap();
        if matches!(archive[156], 0 | b'0') {
            contents.push(archive[512..512 + size].to_vec());
        }
        archive = &archive[512 + size.next_multiple_of(512)..];
    }
    contents
}
